import { StartWorkflow, UserActivated } from '@starter/contracts';
import { createMessage, newMessageId, toMessage, type Message } from '@starter/messaging';
import type { RunningService } from '@starter/service';
import { eventually, ServiceBackends } from '@starter/testing';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import { orchestrator } from '@starter/orchestrator';
import { chain, sleep, waitForEvent, workflow, type AnyDraft } from '../definition/builder.js';
import type { Ref } from '../definition/typed-reference.js';

const topic = 'user-service.events';
let backends: ServiceBackends;
let service: RunningService;

beforeAll(async () => {
  backends = await ServiceBackends.open();
  // The orchestrator waits for the topics of others; their owners declare them.
  await backends.events.declare([{ name: 'user-service.events', partitions: 4 }]);
  service = await backends.start(orchestrator);
});
afterAll(async () => {
  await service?.stop();
  await backends?.close();
});

const input = z.object({ userId: z.uuid() });
const activated = (userId: string): Message =>
  toMessage(UserActivated.of({ userId }), { source: 'user-service', subject: `user-${userId}`, sequence: 1 });

async function begin(userId: string, build: (userId: Ref<string>) => AnyDraft): Promise<string> {
  const workflowId = newMessageId();
  const { definition } = workflow('waiting', { input }, (own) => build(own.userId));
  const draft = StartWorkflow.of({ workflowId, workflow: 'waiting', definition, input: { userId } });
  await backends.commands.send(toMessage(draft, { source: 'spec' }));
  await eventually(async () => expect(await stateOf(workflowId)).toMatchObject({ id: workflowId }));
  return workflowId;
}

const wait = (userId: Ref<string>) => waitForEvent(UserActivated, { match: { userId } });
const stateOf = async (id: string) => (await (await fetch(`${service.url}/workflows/${id}`)).json()) as object;
const until = (id: string, state: string) => eventually(async () => expect(await stateOf(id)).toMatchObject({ state }));
const count = async (sql: string, ...values: unknown[]) => {
  const [row] = await service.app.get(DataSource).query<{ count: number }[]>(sql, values);
  return row?.count;
};
const waitsOf = (id: string) => count('SELECT count(*)::int FROM workflow_wait WHERE workflow_id = $1', id);
const typesOf = async (id: string) =>
  (
    await service.app
      .get(DataSource)
      .query<{ type: string }[]>('SELECT type FROM event WHERE stream_id = $1 ORDER BY sequence', [`workflow-${id}`])
  ).map(({ type }) => type.replace('workflow.', ''));

it('hands an event to the workflows that wait for it, to no other, and once', async () => {
  const [mine, other] = [newMessageId(), newMessageId()];
  const [first, second, third] = [await begin(mine, wait), await begin(mine, wait), await begin(other, wait)];
  const event = activated(mine);
  await backends.events.publish(topic, [event, event]);
  await Promise.all([until(first, 'completed'), until(second, 'completed')]);
  expect(await stateOf(first)).toMatchObject({ results: { '0': { userId: mine } } });
  expect(await typesOf(first)).toEqual(['started', 'event-expected', 'event-awaited', 'event-received', 'completed']);
  expect(await stateOf(third)).toMatchObject({ state: 'running' });
  expect([await waitsOf(first), await waitsOf(third)]).toEqual([0, 1]);
});

it('keeps an event that comes before the wait begins', async () => {
  const userId = newMessageId();
  const id = await begin(userId, (own) => chain(sleep('1h'), wait(own)));
  await backends.events.publish(topic, [activated(userId)]);
  await eventually(async () => expect(await typesOf(id)).toContain('event-kept'));
  await service.app
    .get(DataSource)
    .query(`UPDATE workflow_timer SET due_at = clock_timestamp() WHERE workflow_id = $1`, [id]);
  await until(id, 'completed');
});

it('passes by events that nobody expects, and what has other values', async () => {
  const userId = newMessageId();
  const id = await begin(userId, wait);
  const unknown = createMessage({ ...activated(newMessageId()), id: newMessageId() });
  await backends.events.publish(topic, [unknown, activated(userId)]);
  await until(id, 'completed');
});
