import { NodeEnded } from '@starter/contracts';
import { childPath } from '../definition/node-path.js';
import { work } from './nodes.js';
import type { Run } from './run.js';
import { setTimer, timerOf } from './timers.js';
import { isActive } from './workflow.state.js';

/** Begins members of groups, so many as there is room for. */
export function fillGroups(run: Run): void {
  for (let path = run.state.unfilled.last(); path !== undefined && !run.isFull; path = run.state.unfilled.last()) {
    const { workflowId, groups } = run.state;
    if (isActive(run.state, path)) {
      run.agenda.push({ do: 'enter', path: childPath(path, groups.get(path)?.begun ?? 0) });
      work(run);
    } else {
      run.emit(NodeEnded.of({ workflowId, path, outcome: 'cancelled' }));
    }
  }
  if (run.state.unfilled.isEmpty()) return;
  const last = timerOf(run.state.fillTimer ?? '');
  setTimer(run, { kind: 'fill', number: last?.kind === 'fill' ? last.number + 1 : 1 }, 0);
}
