import { defineCommand, StartWorkflow } from '@starter/contracts';
import {
  ActorRuntime,
  CommandSucceeded,
  CreateEventStore1760000000002,
  decide,
  evolve,
  type RecordedEvent,
} from '@starter/event-sourcing';
import {
  createMessage,
  CreateMessagingTables1760000000001,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  newMessageId,
  silentLogger,
} from '@starter/messaging';
import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { z } from 'zod';
import { forEach, task, workflow } from '../definition/builder.js';
import { workflowInstance } from './workflow.decider.js';
import type { WorkflowState } from './workflow.state.js';

const Do = defineCommand('large.do', { version: 1, owner: 'spec', schema: z.object({}) });
const members = 5_000;
const ids = Array.from({ length: 12 }, () => newMessageId());

let database: TestDataSource;
/** Of the tasks that have not been answered yet; the same in all of the workflows. */
let open: string[] = [];

beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
  const events = nearlyDone(ids[0] as string);
  // Written as they are: to run them all would take minutes.
  await database.dataSource.query(
    `INSERT INTO event (stream_id, sequence, id, type, version, data, correlation_id, command, recorded_at)
     SELECT 'workflow-' || id, sequence, gen_random_uuid(), type, 1, replace(data::text, $2, id)::jsonb, id, 'spec', now()
       FROM unnest($1::text[]) AS id,
            jsonb_to_recordset($3::jsonb) AS event (sequence bigint, type text, data jsonb)`,
    [ids, ids[0], JSON.stringify(events)],
  );
});
afterAll(() => database.close());

/** A group of which all members but ten have been answered. */
function nearlyDone(workflowId: string): RecordedEvent[] {
  const { definition } = workflow('large', { input: z.object({ items: z.array(z.number()) }) }, ({ items }) =>
    forEach(items, () => task(Do, {})),
  );
  const input = { items: Array.from({ length: members }, (_, index) => index) };
  const events: RecordedEvent[] = [];
  let state: WorkflowState = workflowInstance.initialState;
  const requested: string[] = [];
  const send = (type: string, data: unknown): void => {
    const message = createMessage({ type, version: 1, source: 'spec', subject: workflowId, data });
    const decision = decide(workflowInstance, { data, message }, state);
    if ('rejected' in decision) throw new Error(decision.rejected);
    for (const draft of decision) {
      const event = { type: draft.definition.type, data: draft.data, sequence: events.length + 1, time: new Date(0) };
      events.push(event);
      state = evolve(workflowInstance, state, event);
      for (const command of workflowInstance.outgoing?.(event) ?? []) {
        if (command.type === Do.type) requested.push(command.id);
        else send(command.type, command.data);
      }
    }
  };
  send(StartWorkflow.type, { workflowId, workflow: 'large', definition, input });
  for (const requestId of requested.slice(10)) send(CommandSucceeded.type, { requestId, result: null });
  open = requested.slice(0, 10);
  return events;
}

/** A process that has just started; `evolved` counts the events that it has folded. */
function newProcess() {
  const counted = { evolved: 0 };
  const messaging = new Messaging({
    service: 'orchestrator',
    dataSource: database.dataSource,
    commands: new MemoryCommandTransport(),
    events: new MemoryEventTransport(),
    logger: silentLogger,
    partitions: 1,
  });
  const runtime = new ActorRuntime(messaging);
  const actor = {
    ...workflowInstance,
    evolve: new Map(
      [...workflowInstance.evolve].map(([type, handler]) => [
        type,
        {
          ...handler,
          evolve: (state: WorkflowState, event: never) => (counted.evolved++, handler.evolve(state, event)),
        },
      ]),
    ),
  };
  const answer = async (id: string) => {
    const data = { requestId: open[0], result: null };
    const message = createMessage({ type: CommandSucceeded.type, version: 1, source: 'spec', subject: id, data });
    return runtime.execute(actor, { id, command: { data, message } });
  };
  return { runtime, actor, answer, counted };
}

it('reads each of twelve large workflows once, and then none of them for its events', async () => {
  const { runtime, answer, counted } = newProcess();
  for (const id of ids) expect(await answer(id)).toMatchObject({ kind: 'applied' });
  open.shift();
  expect(runtime.metrics).toMatchObject({ reloads: 12, active: 12, passivated: 0 });
  const read = counted.evolved;
  expect(read).toBeGreaterThan(12 * 2 * (members - 10));
  for (let round = 0; round < 3; round += 1) {
    for (const id of ids) await answer(id);
    open.shift();
  }
  expect(runtime.metrics.reloads).toBe(12);
  expect((counted.evolved - read) / 36).toBeLessThan(5);
  await runtime.close();
});

it('reads them from their snapshots after a restart', async () => {
  const { runtime, actor, answer, counted } = newProcess();
  for (const id of ids) await answer(id);
  open.shift();
  expect(runtime.metrics.reloads).toBe(12);
  expect(counted.evolved / 12).toBeLessThan(20);
  // So does whoever looks at one: nobody has to read it again for that.
  const [id = ''] = ids;
  const before = counted.evolved;
  for (let look = 0; look < 5; look += 1) {
    expect(await runtime.read(actor, id)).toMatchObject({ state: { status: 'running' } });
  }
  expect(counted.evolved).toBe(before);
  await runtime.close();
});

it('leaves a last snapshot of one that is over, so that nobody who looks at it reads its events', async () => {
  const { runtime, answer } = newProcess();
  const [id = ''] = ids;
  while (open.length > 0) {
    await answer(id);
    open.shift();
  }
  await runtime.close();
  const { runtime: other, actor, counted } = newProcess();
  for (let look = 0; look < 3; look += 1) {
    expect(await other.read(actor, id)).toMatchObject({ state: { status: 'completed' } });
  }
  expect(counted.evolved).toBe(0);
  await other.close();
});
