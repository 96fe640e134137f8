import { StartCampaign, StartWorkflow, UserRegistered } from '@starter/contracts';
import { newMessageId, toMessage, type Message } from '@starter/messaging';
import type { RunningService } from '@starter/service';
import { eventually, sealedText, ServiceBackends } from '@starter/testing';
import { orchestrator } from '@starter/orchestrator';
import { workflows } from '@starter/orchestrator';
import type { FailedStart } from './failed-starts.js';
import { startedBy } from './workflow-starter.js';

const topic = 'user-service.events';
let backends: ServiceBackends;
let service: RunningService;

beforeAll(async () => {
  backends = await ServiceBackends.open();
  await backends.events.declare([{ name: topic, partitions: 1 }]);
  service = await backends.start(orchestrator);
  await service.messaging.dataSource.query(`
    CREATE TABLE refused (name text PRIMARY KEY);
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF EXISTS (SELECT FROM refused WHERE name = new.name) THEN RAISE 'this one is broken'; END IF;
      RETURN new;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON workflow_directory FOR EACH ROW EXECUTE FUNCTION refuse()`);
});
afterAll(async () => {
  await service?.stop();
  await backends?.close();
});

const refuse = (name: string) => service.messaging.dataSource.query('INSERT INTO refused VALUES ($1)', [name]);
const mend = () => service.messaging.dataSource.query('DELETE FROM refused');
const get = async (path: string) => {
  const response = await fetch(`${service.url}/workflows/${path}`);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
};
const failed = async (id: string): Promise<FailedStart> => {
  await eventually(async () => expect(await get(id)).toMatchObject({ status: 200, body: { state: 'notStarted' } }));
  return (await get(id)).body as FailedStart;
};
const sleeping = { kind: 'sleep', duration: '1h' };
const startOf = (workflowId: string, workflow: string, definition: object): Message =>
  toMessage(StartWorkflow.of({ workflowId, workflow, definition: definition as never, input: {} }), { source: 'spec' });

it('finds a start that is a dead letter under the id of its workflow, says what to do, and that it has worked', async () => {
  await refuse('broken');
  const id = newMessageId();
  expect((await get(id)).status).toBe(404);
  const message = startOf(id, 'broken', sleeping);
  await backends.commands.send(message);
  expect(await failed(id)).toEqual({
    ...{ id, state: 'notStarted', reason: expect.stringContaining('this one is broken') as string },
    start: {
      ...{
        status: 'dead-letter',
        service: 'orchestrator',
        consumer: 'orchestrator.commands',
        type: StartWorkflow.type,
      },
      ...{ messageId: message.id, errorType: expect.any(String) as string, attempts: expect.any(Number) as number },
      since: expect.stringMatching(/Z$/) as string,
      advice: expect.stringContaining(`npm run dead-letters -- redrive ${message.id} --service orchestrator`) as string,
    },
  });
  // Whoever waits for its result waits for nothing.
  expect(await get(`${id}/result?timeout=60s`)).toEqual({
    status: 200,
    body: { id, state: 'notStarted', reason: expect.stringContaining('this one is broken') as string },
  });
  const stream = await fetch(`${service.url}/workflows/${id}/events`);
  const reader = stream.body?.getReader();
  expect(new TextDecoder().decode((await reader?.read())?.value)).toContain('"state":"notStarted"');
  await reader?.cancel();
  await mend();
  await service.messaging.deadLetters.redrive({ ids: [message.id] });
  await eventually(async () => expect((await get(id)).body).toMatchObject({ state: 'running', name: 'broken' }));
});

it('finds one that was refused, and one whose sender has named no subject', async () => {
  const id = newMessageId();
  const message = startOf(id, 'wrong', { kind: 'chain', steps: 'none' });
  await backends.commands.send(message);
  const { reason, start } = await failed(id);
  expect(reason).toContain('the definition cannot run');
  expect(start).toMatchObject({
    status: 'discarded',
    messageId: message.id,
    advice: expect.stringContaining('refused'),
  });
  await refuse('broken');
  const foreign = newMessageId();
  const { subject: _, ...unnamed } = startOf(foreign, 'broken', sleeping);
  await backends.commands.send(unnamed);
  expect((await failed(foreign)).start).toMatchObject({ status: 'dead-letter', messageId: unnamed.id });
  await mend();
});

it('finds the workflow that a command was to start under the id of the command', async () => {
  await refuse('email-campaign');
  const command = toMessage(StartCampaign.of({ campaignId: newMessageId(), name: 'Spring', recipients: [] }), {
    source: 'spec',
  });
  await backends.commands.send(command);
  const { start } = await failed(command.id);
  expect(start).toMatchObject({ status: 'dead-letter', messageId: command.id, type: StartCampaign.type });
  await mend();
  await service.messaging.deadLetters.redrive({ ids: [command.id] });
  await eventually(async () => expect((await get(command.id)).body).toMatchObject({ name: 'email-campaign' }));
});

it('finds the workflow that an event was to start', async () => {
  await refuse('user-onboarding');
  const userId = newMessageId();
  const event = toMessage(
    UserRegistered.of({
      ...{ userId, email: sealedText('a@example.com', 'email'), name: sealedText('Ada') },
      ...{ verificationToken: sealedText('token', 'verificationToken'), registeredAt: new Date(0) },
    }),
    { source: 'user-service', subject: `user-${userId}`, sequence: 1 },
  );
  await backends.events.publish(topic, [event]);
  const onboarding = workflows.find(({ name }) => name === 'user-onboarding')!;
  const { start } = await failed(startedBy(onboarding, event));
  expect(start).toMatchObject({ messageId: event.id, consumer: 'orchestrator.workflows.user-service' });
  expect((await get(newMessageId())).status).toBe(404);
});
