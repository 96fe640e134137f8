import { CancelWorkflow, defineCommand, StartWorkflow, WorkflowCompleted } from '@starter/contracts';
import { converse } from '@starter/testing';
import { z } from 'zod';
import { chain, group, sleep, task, workflow, type AnyDraft } from '../definition/builder.js';
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
const cancel = (path: string) => CancelWorkflow.of({ workflowId, path, reason: 'nobody needs it' });

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
});

describe('cancelling a node', () => {
  it('fails it, and what it is in goes on as after any failure', () => {
    begin(chain(group(task(A, { n: 1 }), task(B, { n: 2 })).minSuccess(1), (both) => task(C, { n: both })))
      .when(cancel('0.0.0'))
      .thenSends()
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
