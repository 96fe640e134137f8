import {
  CancelWorkflow,
  defineCommand,
  ForkWorkflow,
  StartWorkflow,
  TaskRequested,
  TaskRevoked,
  TimerFired,
  TimerSet,
  WorkflowCompleted,
  WorkflowFailed,
  WorkflowForked,
  type DataOf,
} from '@starter/contracts';
import { RevokeTask } from '@starter/event-sourcing';
import type { Draft } from '@starter/messaging';
import { converse } from '@starter/testing';
import { z } from 'zod';
import { chain, fixed, group, sleep, task, workflow, type AnyDraft } from '../definition/builder.js';
import { requestIdOf } from './derived-id.js';
import { forkFrom } from './operations.js';
import { workflowInstance } from './workflow.decider.js';
import type { StartedWorkflow } from './workflow.state.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const forkId = '01980000-0000-7000-8000-000000000002';
const command = (type: string) =>
  defineCommand(type, { version: 1, owner: 'spec', schema: z.object({ n: z.json(), before: z.json().optional() }) });
const [A, B, C, Undo] = [command('spec.a'), command('spec.b'), command('spec.c'), command('spec.undo')];

const begin = (draft: AnyDraft) => {
  const { definition } = workflow('operations', { input: z.object({}) }, () => draft);
  return converse(workflowInstance, workflowId).when(
    StartWorkflow.of({ workflowId, workflow: 'operations', definition, input: {} }),
  );
};
const reason = 'nobody needs it';
const cancel = (path: string) => CancelWorkflow.of({ workflowId, path, reason });
const revocation = (path: string, command: string, { attempt = 1, terminate = false, because = '' } = {}) => {
  const taskId = requestIdOf(workflowId, path, 'run', attempt);
  return { definition: RevokeTask, data: { taskId, command, terminate, reason: `workflow ${workflowId}: ${because}` } };
};

describe('a fork', () => {
  const three = () => chain(task(A, { n: 1 }), sleep('1s'), task(C, { n: 3 }));
  const forkOf = ({ state }: { readonly state: unknown }, from: string) => forkFrom(state as StartedWorkflow, from);

  it('goes on at a step with the results of those before it', () => {
    const earlier = group(task(A, { n: 1 }), task(A, { n: 2 })).minSuccess(0);
    const first = begin(chain(earlier, task(B, { n: 2, before: earlier.result() }), task(C, { n: 3 })));
    first.whenSucceeded(A, 'one').whenFailed(A, 'no').whenSucceeded(B).whenFailed(C, 'the service is ill');
    expect(first.state).toMatchObject({ status: 'failed' });
    const fork = forkOf(first, '0.1');
    if (typeof fork === 'string') throw new Error(fork);
    const { definition, input } = first.state as StartedWorkflow;
    converse(workflowInstance, forkId)
      .when(StartWorkflow.of({ workflowId: forkId, workflow: 'operations', definition, input, fork }))
      .thenSends(B.of({ n: 2, before: ['one', null] }))
      .whenSucceeded(B)
      .whenSucceeded(C, 'three')
      .thenEndsWith(WorkflowCompleted.of({ workflowId: forkId, result: 'three' }));
  });

  it('is refused where the steps before it did not end well, were undone, or are under way', () => {
    const running = begin(three());
    expect(forkOf(running, '0.1')).toContain('is running');
    const failed = begin(chain(task(A, { n: 1 }), task(B, { n: 2 }), task(C, { n: 3 })))
      .whenSucceeded(A)
      .whenFailed(B, 'no');
    expect(forkOf(failed, '0.2')).toBe('0.1 spec.b has not ended well; go on from there, or from a step before it');
    expect(forkOf(failed, '0.1')).toMatchObject({ from: '0.1', results: { '0.0': null } });
    for (const place of ['0', '0.3', '0.0.0', '0.x'])
      expect(forkOf(failed, place)).toContain('is no step of the chain');
    const undone = begin(chain(task(A, { n: 1 }).compensateWith(task(Undo, { n: 1 })), task(B, { n: 2 })));
    undone.whenSucceeded(A).whenFailed(B, 'no').whenSucceeded(Undo);
    expect(forkOf(undone, '0.1')).toBe('0.0 spec.a was undone; start a new workflow instead');
    expect(forkOf(undone, '0.0')).toMatchObject({ results: {} });
  });

  it('is refused by the workflow while it is stuck, and while it undoes what came late', () => {
    const stuck = begin(
      chain(task(A, { n: 1 }), task(B, { n: 2 }).compensateWith(task(Undo, { n: 2 })), task(C, { n: 3 })),
    );
    stuck.whenSucceeded(A).whenSucceeded(B).whenFailed(C, 'no').whenFailed(Undo, 'no');
    const fork = (from: string) => ForkWorkflow.of({ workflowId, fork: forkId, from });
    stuck.when(fork('0.1')).thenRejected('the workflow is stuck, and may still undo those steps; unstick it first');
    const late = begin(
      chain(
        task(A, { n: 1 }),
        task(B, { n: 2 })
          .timeout('1s')
          .compensateWith(task(Undo, { n: 2 })),
      ),
    );
    late
      .whenSucceeded(A)
      .when(TimerFired.of({ workflowId, timerId: 'timeout/0.1/run/1' }))
      .whenSucceeded(Undo);
    late.whenSucceeded(B, 'late').thenSends(Undo.of({ n: 2 }));
    late.when(fork('0.1')).thenRejected('the workflow still undoes what came late; wait for that');
    late
      .whenSucceeded(Undo)
      .when(fork('0.1'))
      .thenEndsWith(WorkflowForked.of({ workflowId, fork: forkId, from: '0.1' }));
    expect(late.state).toMatchObject({ forks: [{ fork: forkId, from: '0.1' }] });
    late.when(fork('0.1')).thenNothing();
  });
});

describe('cancelling a node', () => {
  it('fails it, and what it is in goes on as after any failure', () => {
    begin(chain(group(task(A, { n: 1 }), task(B, { n: 2 })).minSuccess(1), (both) => task(C, { n: both })))
      .when(cancel('0.0.0'))
      .thenSends(revocation('0.0.0', A.type, { because: `0.0.0 spec.a was cancelled: ${reason}` }))
      .whenSucceeded(B, 'two')
      .thenSends(C.of({ n: [null, 'two'] }))
      .whenSucceeded(A, 'late')
      .thenSends();
    const chained = begin(chain(task(A, { n: 1 }), task(B, { n: 2 }))).when(cancel('0.0'));
    expect(chained.state).toMatchObject({ status: 'failed', reason: '0.0 spec.a was cancelled: nobody needs it' });
  });

  it('is refused for what has not begun, has ended, or is not there', () => {
    const run = begin(chain(task(A, { n: 1 }), task(B, { n: 2 }))).whenSucceeded(A);
    run.when(cancel('0.0')).thenRejected('0.0 spec.a has ended; there is nothing to cancel');
    run.when(cancel('0.7')).thenRejected('the definition has no node at 0.7; name one of its steps or groups');
    const early = begin(chain(task(A, { n: 1 }), task(B, { n: 2 }))).when(cancel('0.1'));
    early.thenRejected('0.1 spec.b has not begun; cancel what it is in, or wait until it has');
  });

  it('reaches a task that waits for its rate limit', () => {
    const limited = (n: number) => task(A, { n }).rateLimit('1/h');
    const run = begin(group(limited(1), limited(2)).minSuccess(1)).when(cancel('0.1'));
    run.whenSucceeded(A, 'one');
    expect(run.state).toMatchObject({ status: 'completed' });
  });
});

describe('what is under way in a node that has failed', () => {
  const cancelled = `cancelled: ${reason}`;

  it('is revoked where it runs; with terminate at once', () => {
    const both = () => begin(group(task(A, { n: 1 }), chain(task(B, { n: 2 }), task(C, { n: 3 }))));
    both()
      .whenSucceeded(A)
      .when(CancelWorkflow.of({ workflowId, reason }))
      .thenSends(revocation('0.1.0', B.type, { because: cancelled }));
    both()
      .when(CancelWorkflow.of({ workflowId, reason, terminate: true }))
      .thenSends(
        revocation('0.0', A.type, { because: cancelled, terminate: true }),
        revocation('0.1.0', B.type, { because: cancelled, terminate: true }),
      )
      // Neither is asked for again, whatever the services answer.
      .whenRevoked(A)
      .thenSends()
      .whenRevoked(B)
      .thenSends();
  });

  it('is terminated when it was only asked to end before, once, and under another id', () => {
    const terminate = CancelWorkflow.of({ workflowId, reason, terminate: true });
    const part = begin(group(task(A, { n: 1 }), task(B, { n: 2 })).minSuccess(0));
    part
      .when(cancel('0.0'))
      .thenSends(revocation('0.0', A.type, { because: `0.0 spec.a was cancelled: ${reason}` }))
      .when(terminate)
      .thenSends(
        revocation('0.0', A.type, { because: cancelled, terminate: true }),
        revocation('0.1', B.type, { because: cancelled, terminate: true }),
      )
      .when(terminate)
      .thenRejected('the workflow is failed and cannot be cancelled any more');
    const whole = begin(chain(task(A, { n: 1 })).compensateWith(task(Undo, { n: 1 })));
    whole.when(CancelWorkflow.of({ workflowId, reason })).when(terminate);
    whole.thenSends(revocation('0.0', A.type, { because: cancelled, terminate: true }));
    const ids = whole.events.flatMap((event) => workflowInstance.outgoing?.(event) ?? []).map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('is revoked when another member has failed the group, and under the address of its command', () => {
    const run = begin(group(task(A, { n: 1 }), task(B, { n: 2 }))).whenFailed(B, 'no');
    run.thenSends(revocation('0.0', A.type, { because: '0.1 spec.b failed: no' }));
    const sent = run.events.flatMap((event) => workflowInstance.outgoing?.(event) ?? []);
    expect(sent.at(-1)).toMatchObject({ type: RevokeTask.type, address: `${A.type}.revoke` });
  });

  it('is revoked in every attempt that nobody has answered', () => {
    const impatient = task(A, { n: 1 })
      .retry({ attempts: 2, backoff: fixed('0s') })
      .timeout('1s');
    const run = begin(impatient);
    for (const attempt of [1, 2]) run.when(TimerFired.of({ workflowId, timerId: `timeout/0/run/${attempt}` }));
    const because = '0 spec.a failed: no answer within 1s';
    run.thenSends(revocation('0', A.type, { because }), revocation('0', A.type, { because, attempt: 2 }));
  });

  it('is revoked in parts, so that no transaction has to hold them all', () => {
    const size = 1_200;
    const run = begin(group(...Array.from({ length: size }, (_, n) => task(A, { n }))));
    const fires = () => {
      const timer = run.events.findLast(({ type }) => type === TimerSet.type)?.data as DataOf<typeof TimerSet>;
      return TimerFired.of({ workflowId, timerId: timer.timerId });
    };
    while (run.events.filter(({ type }) => type === TaskRequested.type).length < size) run.when(fires());
    const parts: number[] = [];
    const revoked = () => run.events.flatMap(({ type, data }) => (type === TaskRevoked.type ? [data] : []));
    for (let next = CancelWorkflow.of({ workflowId, reason, terminate: true }) as Draft; revoked().length < size;) {
      const before = run.events.length;
      run.when(next);
      parts.push(run.events.length - before);
      next = fires();
    }
    expect(Math.max(...parts)).toBeLessThan(600);
    expect(new Set(revoked().map((data) => (data as DataOf<typeof TaskRevoked>).requestId)).size).toBe(size);
    expect(revoked().filter((data) => !(data as DataOf<typeof TaskRevoked>).terminate)).toEqual([]);
  });
});

it('a task that was revoked where it runs has failed, and is not tried again', () => {
  const stubborn = task(A, { n: 1 }).retry({ attempts: 5, backoff: fixed('0s') });
  begin(stubborn)
    .whenFailed(A, 'busy')
    .thenSends(A.of({ n: 1 }))
    .whenRevoked(A)
    .thenEndsWith(WorkflowFailed.of({ workflowId, reason: '0 spec.a failed: revoked: by hand' }));
});
