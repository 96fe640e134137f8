import {
  CancelWorkflow,
  defineCommand,
  defineEvent,
  StartWorkflow,
  WorkflowCompleted,
  WorkflowFailed,
} from '@starter/contracts';
import { RevokeTask } from '@starter/event-sourcing';
import { converse, type Conversation } from '@starter/testing';
import { z } from 'zod';
import { chain, chord, forEach, group, task, workflow, type AnyDraft } from '../definition/builder.js';
import { requestIdOf } from './derived-id.js';
import { workflowInstance } from './workflow.decider.js';
import type { WorkflowState } from './workflow.state.js';

/** What Celery documents of its canvas, one test for each row of the table in docs/workflows.md. */
const workflowId = '01980000-0000-7000-8000-000000000001';
const Add = defineCommand('canvas.add', {
  version: 1,
  owner: 'spec',
  schema: z.object({ name: z.string(), of: z.json() }),
});
const Undo = defineCommand('canvas.undo', { version: 1, owner: 'spec', schema: z.object({}) });
const Added = defineEvent('canvas.added', { version: 1, owner: 'spec', schema: z.object({ sum: z.number() }) });

const add = (name: string, of: unknown = null) => task(Add, { name, of: of as never }).answering(Added);
const asked = (name: string, of: unknown = null) => Add.of({ name, of: of as never });
const run = (build: () => AnyDraft): Conversation<WorkflowState> => {
  const { definition } = workflow('canvas', { input: z.object({}) }, build);
  return converse(workflowInstance, workflowId).when(
    StartWorkflow.of({ workflowId, workflow: 'canvas', definition, input: {} }),
  );
};
const completed = (result: unknown) => WorkflowCompleted.of({ workflowId, result: result as never });
const failed = (reason: string) => WorkflowFailed.of({ workflowId, reason });
const sum = (value: number) => ({ sum: value });

it('chain: a step gets the result of the one before', () => {
  run(() =>
    chain(
      add('a'),
      (result) => add('b', result.sum),
      (result) => add('c', result),
    ),
  )
    .thenSends(asked('a'))
    .whenSucceeded(Add, sum(1))
    .thenSends(asked('b', 1))
    .whenSucceeded(Add, sum(2))
    .thenSends(asked('c', sum(2)))
    .whenSucceeded(Add, sum(3))
    .thenEndsWith(completed(sum(3)));
});

it('immutable signatures: a step that is no function gets nothing', () => {
  run(() => chain(add('a'), add('b')))
    .whenSucceeded(Add, sum(1))
    .thenSends(asked('b'));
});

it('chain: the first failure ends it, and what was done is undone', () => {
  run(() => chain(add('a').compensateWith(task(Undo, {})), add('b'), add('c')))
    .whenSucceeded(Add, sum(1))
    .whenFailed(Add, 'no')
    .thenSends(Undo.of({}))
    .whenSucceeded(Undo)
    .thenSends()
    .thenEndsWith(failed('0.1 canvas.add failed: no'));
});

it('group: all are sent at once, and the results have the order of the members', () => {
  const both = run(() => group(add('a'), add('b'))).thenSends(asked('a'), asked('b'));
  both
    .whenSucceeded(Add, sum(1))
    .thenSends()
    .whenSucceeded(Add, sum(2))
    .thenEndsWith(completed([sum(1), sum(2)]));
});

it('group: with waitAll the others run on when one fails; by default they are cancelled', () => {
  run(() => group(add('a'), add('b')).waitAll())
    .whenFailed(Add, 'no')
    .thenSends()
    .whenSucceeded(Add, sum(2))
    .thenEndsWith(failed('0.0 canvas.add failed: no'));
  run(() => group(add('a'), add('b')))
    .whenFailed(Add, 'no')
    .thenEndsWith(failed('0.0 canvas.add failed: no'));
});

it('chord: the body gets the array of the results', () => {
  run(() => chord(group(add('a'), add('b')), (results) => add('body', results)))
    .whenSucceeded(Add, sum(1))
    .whenSucceeded(Add, sum(2))
    .thenSends(asked('body', [sum(1), sum(2)]))
    .whenSucceeded(Add, sum(3))
    .thenEndsWith(completed(sum(3)));
});

it('group | task is a chord', () => {
  run(() => chain(group(add('a'), add('b')), (results) => add('body', results[0].sum)))
    .whenSucceeded(Add, sum(1))
    .whenSucceeded(Add, sum(2))
    .thenSends(asked('body', 1));
});

it('chord: an empty header fires the body at once, once', () => {
  run(() => chord(group(), (results) => add('body', results)))
    .thenSends(asked('body', []))
    .whenSucceeded(Add, sum(0))
    .thenEndsWith(completed(sum(0)));
});

it('chord: a failed header never fires the body, unless enough have succeeded', () => {
  run(() => chord(group(add('a'), add('b')).waitAll(), () => add('body')))
    .whenFailed(Add, 'no')
    .whenSucceeded(Add, sum(2))
    .thenSends()
    .thenEndsWith(failed('0.0.0 canvas.add failed: no'));
  run(() => chord(group(add('a'), add('b')).minSuccess(1), (results) => add('body', results)))
    .whenFailed(Add, 'no')
    .whenSucceeded(Add, sum(2))
    .thenSends(asked('body', [null, sum(2)]));
});

it('nesting: chains in a group, a chord in a chain, a chord whose body is a chain', () => {
  run(() =>
    chain(
      add('first'),
      chord(group(chain(add('a1'), add('a2')), add('b')), (results) =>
        chain(add('c', results), (result) => add('d', result)),
      ),
      (result) => add('last', result.sum),
    ),
  )
    .whenSucceeded(Add, sum(0))
    .thenSends(asked('a1'), asked('b'))
    .whenSucceeded(Add, sum(1))
    .thenSends(asked('a2'))
    .whenSucceeded(Add, sum(2))
    .thenSends()
    .whenSucceeded(Add, sum(3))
    .thenSends(asked('c', [sum(3), sum(2)]))
    .whenSucceeded(Add, sum(4))
    .thenSends(asked('d', sum(4)))
    .whenSucceeded(Add, sum(5))
    .thenSends(asked('last', 5))
    .whenSucceeded(Add, sum(6))
    .thenEndsWith(completed(sum(6)));
});

it('error callbacks: another task runs in place of what failed, or undoes it', () => {
  run(() => chain(add('a').orElse(add('instead')), (result) => add('b', result)))
    .whenFailed(Add, 'no')
    .thenSends(asked('instead'))
    .whenSucceeded(Add, sum(7))
    .thenSends(asked('b', sum(7)));
});

it('map: one task for each item of an earlier result', () => {
  const Listed = defineEvent('canvas.listed', {
    version: 1,
    owner: 'spec',
    schema: z.object({ items: z.array(z.number()) }),
  });
  run(() =>
    chain(task(Add, { name: 'list', of: null }).answering(Listed), ({ items }) =>
      forEach(items, (item) => add('x', item)),
    ),
  )
    .whenSucceeded(Add, { items: [3, 4] })
    .thenSends(asked('x', 3), asked('x', 4))
    .whenSucceeded(Add, sum(3))
    .whenSucceeded(Add, sum(4))
    .thenEndsWith(completed([sum(3), sum(4)]));
});

const revoked = () => ({
  definition: RevokeTask,
  data: {
    taskId: requestIdOf(workflowId, '0.0', 'run', 1),
    command: Add.type,
    terminate: false,
    reason: `workflow ${workflowId}: cancelled: by mistake`,
  },
});

it('revoke: what runs is revoked where it runs, what was done is undone, and what comes late is undone again', () => {
  run(() => chain(add('a').compensateWith(task(Undo, {})), add('b')))
    .when(CancelWorkflow.of({ workflowId, reason: 'by mistake' }))
    .thenSends(revoked(), Undo.of({}))
    .whenSucceeded(Undo)
    .thenEndsWith(failed('cancelled: by mistake'))
    .whenSucceeded(Add, sum(1))
    .thenSends(Undo.of({}))
    .when(CancelWorkflow.of({ workflowId, reason: 'again' }))
    .thenRejected('the workflow is failed and cannot be cancelled any more');
});
