import { MissingPrerequisiteError, startPgBouncer, type Backend } from '@starter/local-backends';
import {
  databaseOptions,
  type DatabaseClient,
  exclusively,
  MemoryCommandBroker,
  MemoryCommandTransport,
  MemoryEventLog,
  MemoryEventTransport,
} from '@starter/messaging';
import { readSettings, startService, type RunningService } from '@starter/service';
import { createTestDatabase, eventually, testPersonalDataKey, type TestDatabase } from '@starter/testing';
import { userService } from '@starter/user-service';
import { randomUUID } from 'node:crypto';
import { DataSource } from 'typeorm';

const databaseUrl = process.env['DATABASE_URL'] ?? '';
// Whoever is not root, and has none, goes without it.
const pgBouncer = await startPgBouncer({ databaseUrl }).catch((error: unknown): undefined => {
  if (!(error instanceof MissingPrerequisiteError)) throw error;
  console.warn(error.message);
});
const scenario = pgBouncer ? describe : describe.skip;

scenario('behind a PgBouncer that pools transactions', () => {
  let database: TestDatabase;
  let pooledUrl: string;
  let broker: MemoryCommandBroker;
  let log: MemoryEventLog;
  const running: RunningService[] = [];

  beforeAll(async () => {
    database = await createTestDatabase();
    const url = new URL((pgBouncer as Backend).url);
    url.pathname = new URL(database.url).pathname;
    pooledUrl = url.href;
    [broker, log] = [new MemoryCommandBroker(), new MemoryEventLog()];
  });
  afterAll(async () => {
    await Promise.all(running.map((service) => service.stop()));
    await pgBouncer?.stop();
    await database.drop();
  });

  const start = async (): Promise<RunningService> => {
    const service = await startService(userService, {
      settings: readSettings(userService.settings, {
        HOST: '127.0.0.1',
        PORT: '0',
        DATABASE_URL: pooledUrl,
        DATABASE_POOL: '4',
        DATABASE_PREPARED_STATEMENTS: 'false',
        LOG_LEVEL: 'silent',
        PERSONAL_DATA_KEY: testPersonalDataKey,
      }),
      transports: { commands: new MemoryCommandTransport(broker), events: new MemoryEventTransport(log) },
    });
    running.push(service);
    return service;
  };

  it('services start four at once on an empty database, and again and again, and register users side by side', async () => {
    await Promise.all([start(), start(), start(), start()]);
    await running.shift()?.stop();
    await Promise.all([start(), start(), start()]);
    const names = Array.from({ length: 60 }, (_, n) => `user ${n}`);
    const ids = await Promise.all(
      names.map(async (name, n) => {
        const response = await fetch(`${running[n % running.length]?.url}/users`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ email: `${randomUUID()}@example.com`, name }),
        });
        expect(response.status).toBe(202);
        return ((await response.json()) as { userId: string }).userId;
      }),
    );
    for (const id of ids) {
      await eventually(async () => expect((await fetch(`${running[0]?.url}/users/${id}`)).status).toBe(200));
    }
    const dataSource = await new DataSource(databaseOptions({ url: database.url })).initialize();
    const [left] = await dataSource.query<Record<string, number>[]>(
      `SELECT (SELECT count(*)::int FROM dead_letters) AS dead,
              (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS locks`,
    );
    await dataSource.destroy();
    expect(left).toEqual({ dead: 0, locks: 0 });
  });

  it('one does what only one may do at a time, and a lock ends with its work', async () => {
    const open = () => new DataSource(databaseOptions({ url: pooledUrl, preparedStatements: false })).initialize();
    const [one, other] = await Promise.all([open(), open()]);
    const refusal = 'it is under way already';
    await exclusively(one, { task: 'spec', refusal }, async () => {
      await expect(exclusively(other, { task: 'spec', refusal }, async () => undefined)).rejects.toThrow(refusal);
    });
    let busy = 0;
    const most: number[] = [];
    const waiting = [one, other, one, other].map((dataSource) =>
      exclusively(dataSource, { task: 'spec' }, async () => {
        most.push((busy += 1));
        await dataSource.query('SELECT pg_sleep(0.05)');
        busy -= 1;
      }),
    );
    await Promise.all(waiting);
    expect(Math.max(...most)).toBe(1);
    await Promise.all([one.destroy(), other.destroy()]);
  });

  it('its settings are those of a transaction, and reach nobody else', async () => {
    const limits = { lockMs: 4_321, idleInTransactionMs: 5_432 };
    const options = databaseOptions({ url: pooledUrl, preparedStatements: false, poolSize: 1, limits });
    const dataSource = await new DataSource(options).initialize();
    const runner = dataSource.createQueryRunner();
    const client = (await runner.connect()) as DatabaseClient;
    expect(client.pooled).toBe(true);
    const show = `SELECT current_setting('lock_timeout') AS lock, current_setting('tcp_user_timeout') AS tcp`;
    expect(await runner.query(show)).toEqual([{ lock: '0', tcp: '0' }]);
    await runner.query(client.begin);
    expect(await runner.query(show)).toMatchObject([{ lock: '4321ms' }]);
    await runner.query('COMMIT');
    expect(await runner.query(show)).toEqual([{ lock: '0', tcp: '0' }]);
    await runner.release();
    await dataSource.destroy();
  });
});
