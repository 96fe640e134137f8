import { ExportUsers } from '@starter/contracts';
import { startRabbitMq, type Backend } from '@starter/local-backends';
import { connectRabbitMq } from '@starter/messaging';
import { orchestrator } from '@starter/orchestrator';
import type { RunningService } from '@starter/service';
import {
  createTestDatabase,
  eventually,
  ServiceBackends,
  testPersonalDataKey,
  type TestDatabase,
} from '@starter/testing';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { DataSource } from 'typeorm';

const scenario = process.env['NATIVE_BROKERS'] === 'missing' ? describe.skip : describe;

const users = 2_500;
/** An export writes parts of 1,000; whoever comes to the last one waits until the lock is let go. */
const lastPartWaits = `
  CREATE FUNCTION wait_for_spec() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF (SELECT count(*) FROM user_export WHERE export_id = NEW.export_id) = 2 THEN PERFORM pg_advisory_xact_lock(42); END IF;
    RETURN NEW;
  END $$;
  CREATE TRIGGER wait_for_spec BEFORE INSERT ON user_export FOR EACH ROW EXECUTE FUNCTION wait_for_spec()`;

interface TaskRow {
  readonly id: string;
  readonly state: string;
  readonly worker: string;
  readonly run: number;
  readonly saved_state: { readonly users: number } | null;
  readonly progress: { readonly percent: number } | null;
  readonly result: unknown;
  readonly revoked: boolean;
}

scenario('user.export as a task of a workflow, when its process is killed in the middle', () => {
  let rabbitMq: Backend;
  let backends: ServiceBackends;
  let workflows: RunningService;
  let database: TestDatabase;
  let dataSource: DataSource;
  let children: ChildProcess[] = [];

  beforeAll(async () => {
    rabbitMq = await startRabbitMq();
    backends = await ServiceBackends.open(await connectRabbitMq({ url: rabbitMq.url }));
    workflows = await backends.start(orchestrator);
  }, 120_000);
  afterAll(async () => {
    await workflows?.stop();
    await backends?.close();
    await rabbitMq?.stop();
  }, 60_000);

  beforeEach(async () => {
    database = await createTestDatabase();
    // One after the other: the first one migrates the database.
    for (let count = 0; count < 2; count += 1) {
      const script = new URL('user-service-process.mjs', import.meta.url).pathname;
      const child = fork(script, [database.url, rabbitMq.url, testPersonalDataKey], { execArgv: [] });
      children.push(child);
      const exited = once(child, 'exit').then(([code]) => Promise.reject(new Error(`a process ended with ${code}`)));
      await Promise.race([once(child, 'message'), exited]);
      exited.catch(() => undefined);
    }
    // One connection, which holds the lock.
    dataSource = await new DataSource({ type: 'postgres', url: database.url, poolSize: 1 }).initialize();
    await dataSource.query(lastPartWaits);
    await dataSource.query('SELECT pg_advisory_lock(42)');
    await dataSource.query(
      `INSERT INTO user_directory (user_id, email, name, status, registered_at, version)
       SELECT gen_random_uuid(), 'sealed', 'sealed', 'registered', now(), 1 FROM generate_series(1, $1)`,
      [users],
    );
  }, 60_000);
  afterEach(async () => {
    await Promise.all(children.map(async (child) => (child.kill('SIGKILL') ? once(child, 'exit') : undefined)));
    children = [];
    await dataSource?.destroy();
    await database?.drop();
  });

  const request = async (path: string, body?: object) => {
    const headers = { 'content-type': 'application/json' };
    const init = body ? { method: 'POST', headers, body: JSON.stringify(body) } : {};
    return (await (await fetch(`${workflows.url}/workflows${path}`, init)).json()) as Record<string, unknown>;
  };
  const begin = async () => {
    const definition = { kind: 'task', command: ExportUsers.type, version: 1, input: {} };
    const { workflowId } = await request('', { workflow: 'an export', definition, input: {} });
    return workflowId as string;
  };
  const taskOf = async () => (await dataSource.query<TaskRow[]>('SELECT * FROM task'))[0];
  const reaches = async (wanted: object) => {
    await eventually(async () => expect(await taskOf()).toMatchObject(wanted));
    return (await taskOf()) as TaskRow;
  };
  const isHeldBy = (child: ChildProcess) => ({ worker: expect.stringMatching(`:${child.pid}$`) as unknown });
  /** Two parts are written; the process that writes the third one is the first of the two. */
  const inTheMiddle = async () => {
    const { worker } = await reaches({ state: 'PROGRESS', run: 1, saved_state: { users: 2_000 } });
    const holder = children.find((child) => worker.endsWith(`:${child.pid}`))!;
    return [holder, children.find((child) => child !== holder)!] as const;
  };

  it('is taken over, goes on where it was, and the workflow gets one answer', async () => {
    const id = await begin();
    const [holder, other] = await inTheMiddle();
    holder.kill('SIGKILL');
    await reaches({ ...isHeldBy(other), state: 'STARTED', run: 2, saved_state: { users: 2_000 } });
    await dataSource.query('SELECT pg_advisory_unlock(42)');
    await reaches({ state: 'SUCCESS', run: 2, result: { users } });
    const [copied] = await dataSource.query<object[]>(
      `SELECT count(*)::int AS copied, count(DISTINCT part ->> 0)::int AS users FROM user_export, json_array_elements(users) AS part`,
    );
    expect(copied).toEqual({ copied: users, users });
    await eventually(async () =>
      expect(await request(`/${id}`)).toMatchObject({ state: 'completed', results: { '0': { users } } }),
    );
    expect((await request(`/${id}`))['steps']).toMatchObject([{ state: 'succeeded', attempt: 1 }]);
  }, 60_000);

  it('stays revoked when it was, although nobody was left to hear it', async () => {
    const id = await begin();
    const [holder] = await inTheMiddle();
    // It waits for the database, and so hears nothing of what it is asked.
    await request(`/${id}/cancel`, { reason: 'not needed' });
    await reaches({ ...isHeldBy(holder), state: 'PROGRESS', revoked: true });
    holder.kill('SIGKILL');
    await reaches({ state: 'REVOKED', run: 1, saved_state: { users: 2_000 }, result: null });
    await eventually(async () =>
      expect(await request(`/${id}`)).toMatchObject({ state: 'failed', steps: [{ state: 'failed', revoked: true }] }),
    );
    await dataSource.query('SELECT pg_advisory_unlock(42)');
    // What the dead one still had under way comes to nothing.
    await eventually(async () => {
      const others = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      expect(await dataSource.query(others)).toEqual([]);
    });
    expect(await dataSource.query('SELECT count(*)::int AS parts FROM user_export')).toEqual([{ parts: 2 }]);
  }, 60_000);
});
