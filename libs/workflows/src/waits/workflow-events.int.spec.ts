import { StartWorkflow, UserActivated, UserRegistered, UserVerified } from '@starter/contracts';
import { newMessageId, toMessage, type Message } from '@starter/messaging';
import type { RunningService } from '@starter/service';
import { eventually, sealedText, ServiceBackends } from '@starter/testing';
import { DataSource } from 'typeorm';
import { orchestrator } from '@starter/orchestrator';
import type { Json } from '../definition/definition.js';

const topic = 'user-service.events';
let backends: ServiceBackends;
const services: RunningService[] = [];

beforeEach(async () => {
  backends = await ServiceBackends.open();
  await backends.events.declare([{ name: topic, partitions: 4 }]);
});
afterEach(async () => {
  for (const service of services.splice(0)) await service.stop();
  await backends.close();
});

const start = async () => {
  const service = await backends.start(orchestrator);
  services.push(service);
  return service;
};

/** Registered, and verified right afterwards: the second event follows the one that starts the workflow. */
function registeredAndVerified(userId: string): Message[] {
  const user = {
    ...{ userId, email: sealedText('a@example.com', 'email'), name: sealedText('Ada') },
    ...{ verificationToken: sealedText('token', 'verificationToken'), registeredAt: new Date(0) },
  };
  const envelope = (sequence: number) => ({ source: 'user-service', subject: `user-${userId}`, sequence });
  return [toMessage(UserRegistered.of(user), envelope(1)), toMessage(UserVerified.of({ userId }), envelope(2))];
}

const count = async (service: RunningService, type: string) => {
  const sql = 'SELECT count(DISTINCT stream_id)::int AS streams, count(*)::int AS events FROM event WHERE type = $1';
  const [row] = await service.app.get(DataSource).query<object[]>(sql, [type]);
  return row;
};

it('delivers what follows the starting event, after an outage as well', async () => {
  const users = Array.from({ length: 300 }, () => newMessageId());
  await backends.events.publish(topic, users.flatMap(registeredAndVerified));
  const service = await start();
  await eventually(async () => {
    expect(await count(service, 'workflow.started')).toEqual({ streams: 300, events: 300 });
    expect(await count(service, 'workflow.event-kept')).toEqual({ streams: 300, events: 300 });
  });
});

it('starts once and delivers once, whichever of several instances has the partition', async () => {
  const first = await start();
  const users = Array.from({ length: 200 }, () => newMessageId());
  await backends.events.publish(topic, users.slice(0, 100).flatMap(registeredAndVerified));
  await start();
  // In two parts, so that the second event may come to another instance than the first.
  const others = users.slice(100).map(registeredAndVerified);
  await backends.events.publish(
    topic,
    others.map(([registered]) => registered as Message),
  );
  await services.splice(0, 1)[0]?.stop();
  await backends.events.publish(topic, others.flat());
  const [left] = services as [RunningService];
  expect(left).not.toBe(first);
  await eventually(async () => {
    expect(await count(left, 'workflow.started')).toEqual({ streams: 200, events: 200 });
    expect(await count(left, 'workflow.event-kept')).toEqual({ streams: 200, events: 200 });
  });
});

const activate: Json = {
  kind: 'task',
  command: 'user.activate',
  version: 1,
  key: 'userId',
  input: { userId: { $ref: 'input.userId' } },
};
const wait: Json = { kind: 'waitForEvent', event: 'user.activated', match: { userId: { $ref: 'input.userId' } } };
const definition = { kind: 'chain', steps: [{ kind: 'sleep', duration: '1h' }, wait, activate] };
const activated = (userId: string) =>
  toMessage(UserActivated.of({ userId }), { source: 'user-service', subject: `user-${userId}`, sequence: 1 });

it('delivers whatever happens after a workflow was accepted over HTTP', async () => {
  const service = await start();
  const users = Array.from({ length: 20 }, () => newMessageId());
  await Promise.all(
    users.map(async (userId) => {
      const response = await fetch(`${service.url}/workflows`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ workflow: 'mine', definition, input: { userId } }),
      });
      expect(response.status).toBe(202);
      await backends.events.publish(topic, [activated(userId)]);
    }),
  );
  await eventually(async () =>
    expect(await count(service, 'workflow.event-kept')).toEqual({ streams: 20, events: 20 }),
  );
});

it('does not see what happened before the start', async () => {
  const service = await start();
  const userId = newMessageId();
  await backends.events.publish(topic, [activated(userId)]);
  const consumer = service.messaging.monitor.consumer('orchestrator.workflows.user-service');
  await eventually(() => expect(consumer.totals.handled).toBe(1));
  const draft = StartWorkflow.of({ workflowId: newMessageId(), workflow: 'mine', definition, input: { userId } });
  await backends.commands.send(toMessage(draft, { source: 'spec' }));
  await eventually(async () => expect(await count(service, 'workflow.started')).toEqual({ streams: 1, events: 1 }));
  expect(await count(service, 'workflow.event-kept')).toEqual({ streams: 0, events: 0 });
});
