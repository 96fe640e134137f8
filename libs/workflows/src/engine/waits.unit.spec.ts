import {
  defineCommand,
  defineEvent,
  DeliverEvent,
  StartWorkflow,
  type DataOf,
  EventExpected,
} from '@starter/contracts';
import { converse, type Conversation } from '@starter/testing';
import { z } from 'zod';
import { chain, forEach, group, sleep, task, waitForEvent, workflow, type AnyDraft } from '../definition/builder.js';
import { defaultLimits } from '../definition/limits.js';
import type { Ref } from '../definition/typed-reference.js';
import { workflowActor, workflowInstance } from './workflow.decider.js';
import type { WorkflowState } from './workflow.state.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const Pay = defineCommand('spec.pay', { version: 1, owner: 'spec', schema: z.object({ order: z.string() }) });
const Paid = defineEvent('spec.paid', {
  version: 1,
  owner: 'spec',
  schema: z.object({ order: z.string(), by: z.string() }),
});
const input = z.object({ order: z.string(), orders: z.array(z.string()) });

function begin(build: (own: Ref<z.input<typeof input>>) => AnyDraft, actor = workflowInstance) {
  const { definition } = workflow('waits', { input }, build);
  const given = { order: 'o1', orders: ['o1', 'o2'] };
  return converse(actor, workflowId).when(
    StartWorkflow.of({ workflowId, workflow: 'waits', definition, input: given }),
  );
}

const expectedBy = ({ events }: Conversation<WorkflowState>) =>
  events.flatMap(({ type, data }) => (type === EventExpected.type ? [data as DataOf<typeof EventExpected>] : []));

function pay(run: Conversation<WorkflowState>, order: string, by: string) {
  const correlation = expectedBy(run).find(({ match }) => match['order'] === order)?.correlation;
  if (correlation === undefined) throw new Error(`no event of ${order} is expected`);
  return run.when(DeliverEvent.of({ workflowId, correlation, data: { order, by } }));
}

const wait = (order: Ref<string>) => waitForEvent(Paid, { match: { order } });

it('keeps what came between its start and the wait', () => {
  const run = begin(({ order }) => chain(task(Pay, { order }), wait(order)));
  pay(run, 'o1', 'Ada');
  expect(run.state).toMatchObject({ status: 'running' });
  run.whenSucceeded(Pay);
  expect(run.state).toMatchObject({ status: 'completed' });
  expect(run.events.at(-1)?.data).toMatchObject({ result: { order: 'o1', by: 'Ada' } });
});

it('takes an event for each of two waits in a row, in the order of their coming, and one for two side by side', () => {
  const row = begin(({ order }) => chain(task(Pay, { order }), wait(order), wait(order)));
  pay(row, 'o1', 'Ada');
  row.whenSucceeded(Pay);
  expect(row.state).toMatchObject({ status: 'running' });
  pay(row, 'o1', 'Eve');
  expect(row.events.at(-1)?.data).toMatchObject({ result: { by: 'Eve' } });

  const sides = begin(({ order }) => group(wait(order), wait(order)));
  pay(sides, 'o1', 'Ada');
  expect(sides.events.at(-1)?.data).toMatchObject({ result: [{ by: 'Ada' }, { by: 'Ada' }] });
});

it('expects each kind of event once, and that of a result from the wait on', () => {
  const run = begin(({ order, orders }) => chain(group(wait(order), wait(order)), forEach(orders, wait), sleep('1s')));
  expect(expectedBy(run).map(({ match }) => match)).toEqual([{ order: 'o1' }]);
  pay(run, 'o1', 'Ada');
  expect(expectedBy(run).map(({ match }) => match)).toEqual([{ order: 'o1' }, { order: 'o2' }]);
});

it('ignores what comes when no node can wait for it any more', () => {
  const run = begin(({ order }) => chain(wait(order), sleep('1s')));
  pay(run, 'o1', 'Ada');
  pay(run, 'o1', 'Eve').thenNothing();
});

it('refuses an event that it does not expect, and more than it may keep', () => {
  const actor = workflowActor({ ...defaultLimits, keptEvents: 2 });
  const run = begin(({ order }) => chain(sleep('1s'), wait(order)), actor);
  for (const by of ['Ada', 'Eve']) pay(run, 'o1', by);
  pay(run, 'o1', 'Bob').thenRejected(
    `workflow ${workflowId} keeps 2 events spec.paid already, for which no node waits yet`,
  );
  run
    .when(DeliverEvent.of({ workflowId, correlation: workflowId, data: {} }))
    .thenRejected(`workflow ${workflowId} expects no event ${workflowId}`);
});
