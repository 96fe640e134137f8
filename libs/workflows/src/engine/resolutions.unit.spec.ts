import {
  defineCommand,
  ResolveRequest,
  StartWorkflow,
  TimerFired,
  UnstickWorkflow,
  WorkflowCompleted,
  WorkflowFailed,
  type DataOf,
} from '@starter/contracts';
import { CommandFailed, CommandHeld, CommandSucceeded, RevokeTask } from '@starter/event-sourcing';
import { converse } from '@starter/testing';
import { z } from 'zod';
import { chain, fixed, group, sleep, task, workflow, type AnyDraft } from '../definition/builder.js';
import { requestIdOf } from './derived-id.js';
import { timerIdOf } from './timers.js';
import { workflowInstance } from './workflow.decider.js';
import type { StartedWorkflow } from './workflow.state.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const command = (type: string) => defineCommand(type, { version: 1, owner: 'spec', schema: z.object({ n: z.json() }) });
const [A, B, Undo] = [command('spec.a'), command('spec.b'), command('spec.undo')];

const begin = (draft: AnyDraft) => {
  const { definition } = workflow('resolved', { input: z.object({}) }, () => draft);
  return converse(workflowInstance, workflowId).when(
    StartWorkflow.of({ workflowId, workflow: 'resolved', definition, input: {} }),
  );
};
type Remedy = DataOf<typeof ResolveRequest>['remedy'];
interface Place {
  readonly purpose?: 'run' | 'compensate';
  readonly attempt?: number;
}
const requestAt = (path: string, { purpose = 'run', attempt = 1 }: Place) =>
  requestIdOf(workflowId, path, purpose, attempt);
const resolve = (
  path: string,
  remedy: Remedy,
  { purpose, attempt, ...more }: Place & { result?: z.core.util.JSONType; reason?: string } = {},
) => {
  const place = { ...(purpose ? { purpose } : {}), ...(attempt ? { attempt } : {}) };
  return ResolveRequest.of({ workflowId, requestId: requestAt(path, place), remedy, ...more });
};
const lateSuccess = (path: string, place: Place = {}) => ({
  definition: CommandSucceeded,
  data: { requestId: requestAt(path, place), result: 'late' },
});
const revocation = (path: string, of: typeof A, reason: string, purpose: 'run' | 'compensate' = 'run') => {
  const taskId = requestIdOf(workflowId, path, purpose, 1);
  return {
    definition: RevokeTask,
    data: { taskId, command: of.type, terminate: false, reason: `workflow ${workflowId}: ${reason}` },
  };
};
const timeoutOf = (path: string, attempt: number) =>
  TimerFired.of({ workflowId, timerId: timerIdOf({ kind: 'timeout', path, purpose: 'compensate', attempt }) });
const statusOf = ({ state }: { readonly state: unknown }) => (state as StartedWorkflow).status;

describe('a task that nobody has answered', () => {
  const steps = () => chain(task(A, { n: 1 }).compensateWith(task(Undo, { n: 1 })), task(B, { n: 2 }));

  it('succeeds with the result of the operator, and a success that comes after all changes nothing', () => {
    begin(steps())
      .when(resolve('0.0', 'succeed', { result: 'by hand', reason: 'sent by hand' }))
      .thenSends(revocation('0.0', A, 'sent by hand'), B.of({ n: 2 }))
      .when(lateSuccess('0.0'))
      .thenSends()
      .whenSucceeded(B, 'end')
      .thenEndsWith(WorkflowCompleted.of({ workflowId, result: 'end' }));
  });

  it('is skipped with the result null', () => {
    const skipped = begin(steps()).when(resolve('0.0', 'skip'));
    expect((skipped.state as StartedWorkflow).results.get('0.0')).toBeNull();
  });

  it('fails for good, and a success that comes after all is undone again', () => {
    begin(
      chain(
        task(A, { n: 1 })
          .retry({ attempts: 5 })
          .compensateWith(task(Undo, { n: 1 })),
        task(B, { n: 2 }),
      ),
    )
      .when(resolve('0.0', 'fail', { reason: 'it is lost' }))
      .thenSends(revocation('0.0', A, 'it is lost'), Undo.of({ n: 1 }))
      .whenSucceeded(Undo)
      .thenEndsWith(WorkflowFailed.of({ workflowId, reason: '0.0 spec.a failed: it is lost' }))
      .when(lateSuccess('0.0'))
      .thenSends(Undo.of({ n: 1 }));
  });

  it('is asked for again, and the first answer of the earlier attempt is late', () => {
    const again = begin(steps()).when(resolve('0.0', 'retry'));
    again
      .thenSends(revocation('0.0', A, 'resolved by an operator'), A.of({ n: 1 }))
      .when(lateSuccess('0.0'))
      .thenSends()
      .when(resolve('0.0', 'succeed', { attempt: 2, result: 'second' }));
    expect((again.state as StartedWorkflow).results.get('0.0')).toBe('second');
  });

  it('is resolved only once, only where somebody waits, and only by its own id', () => {
    const failed = begin(group(task(A, { n: 1 }), task(B, { n: 2 }))).whenFailed(A, 'no');
    failed.when(resolve('0.0', 'skip')).thenRejected('the request has failed; there is nothing to resolve');
    failed
      .when(resolve('0.1', 'skip'))
      .thenRejected('nobody waits for the request any more; what comes of it is undone where need be');
    const unknown = requestIdOf(workflowId, '0.7', 'run', 1);
    failed
      .when(resolve('0.7', 'skip'))
      .thenRejected(`the workflow has no request ${unknown}; its steps name those that it has`);
  });
});

describe('a compensation that nobody has answered', () => {
  const unanswered = () =>
    begin(
      chain(
        task(A, { n: 1 }).compensateWith(task(Undo, { n: 1 })),
        task(A, { n: 2 }).compensateWith(task(Undo, { n: 2 })),
        task(B, { n: 3 }),
      ),
    )
      .whenSucceeded(A)
      .whenSucceeded(A)
      .whenFailed(B, 'no')
      .thenSends(Undo.of({ n: 2 }));
  const of = (remedy: Remedy) => resolve('0.1', remedy, { purpose: 'compensate' });
  const revoked = revocation('0.1', Undo, 'resolved by an operator', 'compensate');

  it.each(['succeed', 'skip'] as const)('%s: the next is undone', (remedy) => {
    unanswered()
      .when(of(remedy))
      .thenSends(revoked, Undo.of({ n: 1 }))
      .when(lateSuccess('0.1', { purpose: 'compensate' }))
      .thenSends()
      .when(resolve('0.0', remedy, { purpose: 'compensate' }))
      .thenEndsWith(WorkflowFailed.of({ workflowId, reason: '0.2 spec.b failed: no' }));
  });

  it('retry: it is asked for once more', () => {
    unanswered()
      .when(of('retry'))
      .thenSends(revoked, Undo.of({ n: 2 }))
      .when(resolve('0.1', 'succeed', { purpose: 'compensate', attempt: 2 }))
      .thenSends(
        { ...revoked, data: { ...revoked.data, taskId: requestIdOf(workflowId, '0.1', 'compensate', 2) } },
        Undo.of({ n: 1 }),
      );
  });

  it('fail: the workflow is stuck, which has its own remedies', () => {
    const stuck = unanswered().when(of('fail'));
    expect(statusOf(stuck)).toBe('stuck');
    stuck.when(UnstickWorkflow.of({ workflowId, path: '0.1', remedy: 'resume' })).thenSends(Undo.of({ n: 1 }));
  });
});

describe('three compensations that are stuck at a time', () => {
  const member = (n: number) => task(A, { n }).compensateWith(task(Undo, { n }).timeout('1h'));
  /** Of four: that of the last one is under way. */
  const undoing = () => {
    const run = begin(
      chain(
        task(A, { n: 0 }).compensateWith(task(Undo, { n: 0 })),
        group(...[1, 2, 3, 4].map(member)),
        task(B, { n: 5 }),
      ),
    );
    for (let n = 0; n < 5; n += 1) run.whenSucceeded(A);
    return run.whenFailed(B, 'no');
  };
  const unanswered = '0.1.0';
  const threeFailed = () => {
    const run = undoing();
    for (const path of ['0.1.1', '0.1.2', '0.1.3']) {
      run.when({
        definition: CommandFailed,
        data: { requestId: requestAt(path, { purpose: 'compensate' }), reason: 'locked' },
      });
    }
    return run;
  };
  const allStuck = () => threeFailed().when(lateSuccess(unanswered, { purpose: 'compensate' }));
  const unstick = (path: string, remedy: 'retry' | 'skip' | 'resume') =>
    UnstickWorkflow.of({ workflowId, path, remedy });
  const stuckAt = ({ state }: { readonly state: unknown }) => [...(state as StartedWorkflow).compensations.stuck];

  it('do not make the workflow stuck as long as another one is under way', () => {
    const run = threeFailed();
    expect(statusOf(run)).toBe('compensating');
    expect(stuckAt(run)).toEqual(['0.1.1', '0.1.2', '0.1.3']);
    run.when(lateSuccess(unanswered, { purpose: 'compensate' })).thenSends();
    expect(statusOf(run)).toBe('stuck');
    expect((run.state as StartedWorkflow).stuckBecause).toBe(
      'the compensation of 0.1.1 spec.a failed: locked (so did those of 0.1.2, 0.1.3); it ran because 0.2 spec.b failed: no',
    );
  });

  it('are resolved in any order and in any way; the last one sets off what waits for all of them', () => {
    const run = allStuck();
    run.when(unstick('0.1.2', 'skip')).thenSends();
    expect([statusOf(run), stuckAt(run)]).toEqual(['stuck', ['0.1.1', '0.1.3']]);
    run.when(unstick('0.1.3', 'retry')).thenSends(Undo.of({ n: 4 }));
    expect([statusOf(run), stuckAt(run)]).toEqual(['compensating', ['0.1.1']]);
    run.when(resolve('0.1.1', 'succeed', { purpose: 'compensate', result: 'by hand' })).thenSends();
    expect([statusOf(run), stuckAt(run)]).toEqual(['compensating', []]);
    const { requests } = run.state as StartedWorkflow;
    expect(requests.get(requestAt('0.1.1', { purpose: 'compensate' }))).toMatchObject({
      ...{ state: 'succeeded', result: 'by hand', resolved: true },
    });
    run
      .when(lateSuccess('0.1.3', { purpose: 'compensate', attempt: 2 }))
      .thenSends(Undo.of({ n: 0 }))
      .when(lateSuccess('0.0', { purpose: 'compensate' }))
      .thenEndsWith(WorkflowFailed.of({ workflowId, reason: '0.2 spec.b failed: no' }));
  });

  it('can be resolved while others are under way', () => {
    const run = threeFailed();
    run.when(unstick('0.1.1', 'retry')).thenSends(Undo.of({ n: 2 }));
    run.when(unstick('0.1.2', 'resume')).thenSends();
    run.when(resolve('0.1.3', 'skip', { purpose: 'compensate' })).thenSends();
    run.when(lateSuccess('0.1.1', { purpose: 'compensate', attempt: 2 })).thenSends();
    run.when(lateSuccess(unanswered, { purpose: 'compensate' })).thenSends(Undo.of({ n: 0 }));
  });

  it('are named to whoever asks for another place, or twice', () => {
    const run = allStuck();
    run
      .when(unstick('0.0', 'skip'))
      .thenRejected('the workflow is stuck at 0.1.1, 0.1.2, 0.1.3, and not stuck at 0.0; there is nothing to skip');
    run
      .when(resolve('0.1.2', 'fail', { purpose: 'compensate' }))
      .thenRejected('the request has failed already; there is nothing to resolve');
    run
      .when(unstick('0.1.1', 'resume'))
      .when(unstick('0.1.1', 'resume'))
      .thenRejected('the workflow is stuck at 0.1.2, 0.1.3, and not stuck at 0.1.1; there is nothing to resume');
  });

  it('end by themselves when an answer comes that was not waited for any more', () => {
    const run = allStuck().when(unstick('0.1.1', 'skip')).when(unstick('0.1.2', 'skip'));
    run.when(unstick('0.1.3', 'retry')).when(timeoutOf('0.1.3', 2));
    expect(statusOf(run)).toBe('stuck');
    run.when(lateSuccess('0.1.3', { purpose: 'compensate', attempt: 2 })).thenSends(Undo.of({ n: 0 }));
  });
});

describe('a failure that another attempt cannot mend', () => {
  const patient = () => task(A, { n: 1 }).retry({ attempts: 5, backoff: fixed('0s') });

  it.each(['rejected', 'invalid', 'discarded'] as const)('is not tried again: %s', (hopeless) => {
    begin(patient()).whenFailed(A, 'the user is not registered', { hopeless }).thenSends();
  });

  it('of any other kind is tried again', () => {
    begin(patient())
      .whenFailed(A, 'busy')
      .thenSends(A.of({ n: 1 }));
  });
});

describe('a command that waits for an operator of its service', () => {
  const requestId = requestIdOf(workflowId, '0.0', 'run', 1);
  const told = (status: 'dead-letter' | 'redriven', since: string) => ({
    definition: CommandHeld,
    data: { requestId, service: 'email-service', status, reason: 'TypeError', since },
  });
  const heldIn = ({ state }: { readonly state: unknown }) => (state as StartedWorkflow).requests.get(requestId)?.held;

  it('shows in its request, and changes nothing else', () => {
    const begun = begin(chain(task(A, { n: 1 }), sleep('1h')));
    begun.when(told('dead-letter', '2026-01-01T00:00:01.000Z')).thenSends();
    expect(heldIn(begun)).toEqual({
      ...{ service: 'email-service', status: 'dead-letter', reason: 'TypeError', since: '2026-01-01T00:00:01.000Z' },
    });
    begun.when(told('redriven', '2026-01-01T00:00:03.000Z'));
    // Told earlier, and come later.
    begun.when(told('dead-letter', '2026-01-01T00:00:02.000Z'));
    expect(heldIn(begun)).toMatchObject({ status: 'redriven' });
    begun.whenSucceeded(A, 'done');
    const before = begun.events.length;
    begun.when(told('dead-letter', '2026-01-01T00:00:04.000Z'));
    expect(begun.events).toHaveLength(before);
  });
});
