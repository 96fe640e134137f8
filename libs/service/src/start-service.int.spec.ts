import { Controller, Get, Inject, Module, type DynamicModule } from '@nestjs/common';
import {
  createMessage,
  MemoryCommandBroker,
  MemoryCommandTransport,
  MemoryEventLog,
  MemoryEventTransport,
  Messaging,
  OnCommand,
  toMessage,
  TransientError,
  type CommandTransport,
  type Consumer,
  type Outcome,
  type Received,
} from '@starter/messaging';
import { createTestDatabase, eventually, type TestDatabase } from '@starter/testing';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import { Access } from './access/access.js';
import { baseSettings, readSettings } from './configuration.js';
import { startService, type RunningService } from './start-service.js';

const DoIt = {
  kind: 'command',
  type: 'spec.do-it',
  version: 1,
  owner: 'spec',
  schema: z.strictObject({ n: z.int() }),
} as const;

let answerSlowly = (): Promise<void> => Promise.resolve();

@Controller('slow')
class SlowController {
  @Get()
  @Access('public')
  async get(): Promise<string> {
    await answerSlowly();
    return 'answered';
  }
}

@Module({ controllers: [SlowController] })
class SpecModule {}

/** A service that hands every command to `handle`. */
function moduleWith(handle: (n: number, messaging: Messaging) => Promise<void>): DynamicModule {
  @Controller()
  class CommandController {
    constructor(@Inject(Messaging) private readonly messaging: Messaging) {}

    @OnCommand(DoIt, { failurePolicy: { backoff: { baseMs: 1 } } })
    doIt({ data }: Received<typeof DoIt>): Promise<void> {
      return handle(data.n, this.messaging);
    }
  }
  return { module: SpecModule, controllers: [CommandController] };
}

let database: TestDatabase;
let broker: MemoryCommandBroker;
let log: MemoryEventLog;
let service: RunningService | undefined;

beforeEach(async () => {
  database = await createTestDatabase();
  broker = new MemoryCommandBroker();
  log = new MemoryEventLog();
});
afterEach(async () => {
  await service?.stop();
  service = undefined;
  await database.drop();
});

const start = async (
  handle: (n: number, messaging: Messaging) => Promise<void> = async () => undefined,
  settings: Record<string, string> = {},
  commands: CommandTransport = new MemoryCommandTransport(broker),
  contracts: Record<string, unknown> = {},
): Promise<RunningService> =>
  (service = await startService(
    {
      name: 'spec',
      description: 'A service of a spec.',
      defaultPort: 0,
      settings: baseSettings,
      entities: [],
      migrations: [],
      contracts: { DoIt, ...contracts },
      module: () => moduleWith(handle),
    },
    {
      settings: readSettings(baseSettings, {
        DATABASE_URL: database.url,
        HOST: '127.0.0.1',
        PORT: '0',
        LOG_LEVEL: 'silent',
        ...settings,
      }),
      transports: { commands, events: new MemoryEventTransport(log) },
    },
  ));

const send = async (n: number) =>
  new MemoryCommandTransport(broker).send(toMessage({ definition: DoIt, data: { n } }, { source: 'spec' }));
const health = async (probe: string) => {
  const response = await fetch(`${service?.managementUrl}/health/${probe}`);
  return { status: response.status, body: (await response.json()) as Record<string, Record<string, unknown>> };
};
const metric = async (name: string) => {
  const text = await (await fetch(`${service?.managementUrl}/metrics`)).text();
  return Number(new RegExp(`^${name}\\{[^}]*\\} (\\d+)$`, 'm').exec(text)?.[1]);
};
const holdable = () => {
  let release!: () => void;
  const released = new Promise<void>((resolve) => (release = resolve));
  return { release, released };
};

it('stops in order: not ready, takes nothing new, finishes and acknowledges what is in hand, closes the database', async () => {
  const steps: string[] = [];
  const { release, released } = holdable();
  const memory = new MemoryCommandTransport(broker);
  const recording = Object.assign(Object.create(memory) as CommandTransport, {
    async consume(queue: string, handler: (delivery: never) => Promise<Outcome>): Promise<Consumer> {
      const consumer = await memory.consume(queue, async (delivery) => {
        const outcome = await handler(delivery as never);
        steps.push(`outcome ${outcome.kind}`);
        return outcome;
      });
      const close = consumer.close.bind(consumer);
      return Object.assign(consumer, {
        async close(drainMs?: number) {
          steps.push('takes nothing new');
          await close(drainMs);
          steps.push(`drained, ${broker.messages(queue).length} not taken`);
        },
      });
    },
  });
  const { app, stop, messaging } = await start(
    async (n, { dataSource }) => {
      steps.push(`begins ${n}`);
      await released;
      await dataSource.query('CREATE TABLE effect ()');
      steps.push('commits');
    },
    { SHUTDOWN_DELAY_MS: '3000' },
    recording,
  );
  const dataSource = app.get(DataSource);
  const destroy = dataSource.destroy.bind(dataSource);
  dataSource.destroy = () => (steps.push('database closes'), destroy());
  const stopRelay = messaging.relay.stop.bind(messaging.relay);
  messaging.relay.stop = () => (steps.push('relay stops'), stopRelay());

  await send(1);
  await eventually(() => expect(steps).toContain('begins 1'));
  const stopped = stop();
  // Still listening, so that the load balancer learns it.
  expect(await health('ready')).toMatchObject({
    status: 503,
    body: { details: { service: { message: 'it shuts down: use another instance' } } },
  });
  expect((await health('live')).status).toBe(200);
  expect(steps).toEqual(['begins 1']);
  await eventually(() => expect(steps).toContain('takes nothing new'));
  await send(2);
  await eventually(() => expect(fetch(`${service?.managementUrl}/health/live`)).rejects.toThrow());
  release();
  await stopped;
  expect(steps).toEqual([
    'begins 1',
    'takes nothing new',
    'commits',
    'outcome done',
    'drained, 1 not taken',
    'relay stops',
    'database closes',
  ]);
});

it('retries what a method of a controller throws, which is no problem of HTTP', async () => {
  let calls = 0;
  const { messaging } = await start(async () => {
    calls += 1;
    if (calls < 3) throw new TransientError('busy');
  });
  await send(1);
  await eventually(() => expect(messaging.monitor.totals).toMatchObject({ handled: 1, retried: 2, deadLettered: 0 }));
});

it('refuses to start when nothing handles a command that it owns', async () => {
  const contracts = { Forgotten: { ...DoIt, type: 'spec.forgotten' } };
  await expect(start(undefined, {}, new MemoryCommandTransport(broker), contracts)).rejects.toThrow(
    'spec owns commands that nothing handles, so that they would become dead letters: Forgotten (spec.forgotten)',
  );
});

it('gives back what is not finished in time, and ends all the same', async () => {
  const { release, released } = holdable();
  const { stop, messaging } = await start(() => released, { SHUTDOWN_DRAIN_MS: '50' });
  await send(1);
  await eventually(() => expect(messaging.inHand).toEqual({ 'spec.commands': 1 }));
  await stop();
  expect(broker.messages('spec.commands')).toHaveLength(1);
  release();
});

it('finishes requests in hand and refuses later ones', async () => {
  const { release, released } = holdable();
  const { stop, url, managementUrl } = await start();
  let begun = false;
  answerSlowly = () => ((begun = true), released);
  const inHand = fetch(`${url}/slow`);
  await eventually(() => expect(begun).toBe(true));
  const stopped = stop();
  await eventually(() => expect(fetch(`${managementUrl}/health/live`)).rejects.toThrow());
  release();
  expect((await inHand).status).toBe(200);
  await stopped;
});

it('takes requests while its brokers are away, and says that it gets nowhere and what to do', async () => {
  const { messaging } = await start();
  expect(await health('progress')).toMatchObject({ status: 200, body: { details: { messaging: { status: 'up' } } } });
  expect((await health('startup')).status).toBe(200);
  broker.stop();
  log.stop();
  const { status, body } = await health('progress');
  expect(status).toBe(503);
  expect(body['details']?.['messaging']).toMatchObject({
    status: 'down',
    'command broker': expect.stringMatching(/check that the broker runs/),
    'event broker': expect.stringMatching(/check that the broker runs/),
    'spec.commands': expect.stringMatching(/not attached/),
  });
  expect(await metric('messaging_problems')).toBeGreaterThanOrEqual(3);
  for (const probe of ['ready', 'live', 'startup']) expect((await health(probe)).status).toBe(200);
  broker.start();
  log.start();
  await eventually(async () => expect((await health('progress')).status).toBe(200));
  expect(messaging.problems()).toEqual([]);
  expect(await metric('messaging_problems')).toBe(0);
});

it('does not progress while a consumer has work in hand and gets nowhere', async () => {
  const { release, released } = holdable();
  await start(() => released, { STALLED_AFTER_MS: '1000' });
  await send(1);
  await eventually(async () =>
    expect((await health('progress')).body['details']?.['messaging']).toMatchObject({
      status: 'down',
      'spec.commands': expect.stringMatching(/1 deliveries are in hand and none has ended/),
    }),
  );
  expect((await health('ready')).status).toBe(200);
  release();
  await eventually(async () => expect((await health('progress')).status).toBe(200));
});

it('stays ready and goes on while its outbox holds a command that no queue takes', async () => {
  const { app } = await start(undefined, { STALLED_AFTER_MS: '1000' });
  const unknown = createMessage({ type: 'nobody.knows', version: 1, source: 'spec', subject: 'a', data: {} });
  await app.get(DataSource).query(
    `INSERT INTO outbox (channel, exchange, address, ordering_key, message, written_at)
     VALUES ('command', 'commands', 'nobody.knows', 'a', $1, now() - interval '1 hour')`,
    [JSON.stringify(unknown)],
  );
  await eventually(async () => {
    expect((await health('ready')).status).toBe(200);
    expect((await health('progress')).status).toBe(200);
    expect((await app.get(Messaging).deadLetters.list()).items).toMatchObject([
      { id: unknown.id, consumer: 'outbox', kind: 'outgoing', errorType: 'UnroutableError' },
    ]);
  });
});

it('takes no requests while its outbox is past the mark, nor without its database', async () => {
  const { app, messaging } = await start();
  expect((await health('ready')).status).toBe(200);
  await messaging.relay.backlog.stop();
  messaging.relay.backlog.high = true;
  expect(await health('ready')).toMatchObject({
    status: 503,
    body: { details: { outbox: { status: 'down', message: expect.stringMatching(/wait to be sent/) } } },
  });
  messaging.relay.backlog.high = false;
  expect((await health('ready')).status).toBe(200);
  await app.get(DataSource).destroy();
  expect(await health('ready')).toMatchObject({ status: 503, body: { details: { database: { status: 'down' } } } });
  await app.get(DataSource).initialize();
});

it('answers 503 with Retry-After while its database cannot be used, whatever was under way, and is not restarted for that', async () => {
  const { app, url } = await start();
  const dataSource = app.get(DataSource);
  const outside = await new DataSource({ type: 'postgres', url: process.env['DATABASE_URL'] ?? '' }).initialize();
  const name = new URL(database.url).pathname.slice(1);
  const end = () => outside.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [name]);
  const get = async () => {
    const response = await fetch(`${url}/slow`);
    return {
      status: response.status,
      retryAfter: response.headers.get('retry-after'),
      type: response.headers.get('content-type'),
    };
  };
  const unavailable = { status: 503, retryAfter: '5', type: expect.stringContaining('application/problem+json') };
  try {
    let asked = false;
    answerSlowly = async () => {
      const answer = dataSource.query('SELECT pg_sleep(60)');
      asked = true;
      await answer;
    };
    const underWay = get();
    await eventually(() => expect(asked).toBe(true));
    await outside.query(`ALTER DATABASE "${name}" ALLOW_CONNECTIONS false`);
    await end();
    expect(await underWay).toEqual(unavailable);
    answerSlowly = async () => void (await dataSource.query('SELECT 1'));
    expect(await get()).toEqual(unavailable);
    expect((await health('live')).status).toBe(200);
    await outside.query(`ALTER DATABASE "${name}" ALLOW_CONNECTIONS true`);
    await eventually(async () => expect((await get()).status).toBe(200));
  } finally {
    answerSlowly = () => Promise.resolve();
    await outside.destroy();
  }
});

it('is not alive when its work hangs, and says where', async () => {
  const { release, released } = holdable();
  const { messaging } = await start();
  const hung = messaging.watchdog.during('spec.projection', () => released);
  messaging.stuck = () => [...messaging.watchdog.longerThan(0).keys()].map((part) => ({ part, problem: 'it hangs' }));
  await eventually(async () =>
    expect(await health('live')).toMatchObject({
      status: 503,
      body: { details: { work: { 'spec.projection': 'it hangs' } } },
    }),
  );
  release();
  await hung;
  await eventually(async () => expect((await health('live')).status).toBe(200));
});
