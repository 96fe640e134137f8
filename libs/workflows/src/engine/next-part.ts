import { NodeEnded } from '@starter/contracts';
import { childPath } from '../definition/node-path.js';
import { attemptsOf, nextToUndo } from './compensations.js';
import { work } from './nodes.js';
import { request } from './requests.js';
import type { Run } from './run.js';
import { timerOf } from './timers.js';
import { isActive, type StartedWorkflow } from './workflow.state.js';

/** Whether there are members of groups to begin, or compensations to request: what has not fitted in one transaction. */
export const hasMore = ({ unfilled, compensations }: StartedWorkflow): boolean =>
  !unfilled.isEmpty() || nextToUndo(compensations) !== undefined;

/** Begins members of groups and requests compensations, so many as there is room for; a timer goes on with the others. */
export function beginMore(run: Run): void {
  fillGroups(run);
  requestCompensations(run);
  if (!hasMore(run.state)) return;
  const last = timerOf(run.state.partTimer ?? '');
  run.setTimer({ kind: 'part', number: last?.kind === 'part' ? last.number + 1 : 1 }, 0);
}

function fillGroups(run: Run): void {
  for (let path = run.state.unfilled.last(); path !== undefined && !run.isFull; path = run.state.unfilled.last()) {
    const { workflowId, groups } = run.state;
    if (isActive(run.state, path)) {
      run.agenda.push({ do: 'enter', path: childPath(path, groups.get(path)?.begun ?? 0) });
      work(run);
    } else {
      run.emit(NodeEnded.of({ workflowId, path, outcome: 'cancelled' }));
    }
  }
}

function requestCompensations(run: Run): void {
  while (!run.isFull) {
    const { compensations } = run.state;
    const path = nextToUndo(compensations);
    if (path === undefined) return;
    request(run, path, 'compensate', attemptsOf(compensations, path).all + 1);
  }
}
