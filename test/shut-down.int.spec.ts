import {
  connectRabbitMq,
  createMessage,
  CreateMessagingTables1760000000001,
  type CommandTransport,
} from '@starter/messaging';
import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { connect as connectAmqp } from 'amqplib';
import { SpecService, type Backends } from './spec-service.js';

const { RABBITMQ_URL = '', KAFKA_BROKERS = '' } = process.env;
const scenario = RABBITMQ_URL && KAFKA_BROKERS ? describe : describe.skip;

scenario('SIGTERM to a service under load', () => {
  let database: TestDataSource;
  let backends: Backends;
  let outside: CommandTransport;
  let service: SpecService;
  let sent: number;

  beforeEach(async () => {
    database = await openTestDataSource([CreateMessagingTables1760000000001]);
    await database.dataSource.query('CREATE TABLE begun (n int); CREATE TABLE gate (); CREATE TABLE effect (n int)');
    backends = { DATABASE_URL: database.url, RABBITMQ_URL, KAFKA_BROKERS };
    outside = await connectRabbitMq({ url: RABBITMQ_URL });
    sent = 0;
  });
  afterEach(async () => {
    await outside.close();
    await service.remove(backends);
    await database.close();
  });

  const start = async (settings: Readonly<Record<string, string>> = {}, name?: string): Promise<void> => {
    service = await SpecService.start(backends, { COMMAND_PREFETCH: '20', ...settings }, name);
    await eventually(async () => expect((await service.probe('ready')).status).toBe(200), { timeoutMs: 40_000 });
  };
  const send = async (count: number): Promise<void> => {
    const type = `${service.name}.work`;
    const numbers = Array.from({ length: count }, () => ++sent);
    await Promise.all(
      numbers.map((n) => outside.send(createMessage({ type, version: 1, source: 'spec', data: { n } }))),
    );
  };
  /** Those of a table, in order. */
  const numbersIn = async (table: 'begun' | 'effect'): Promise<number[]> => {
    const rows = await database.dataSource.query<{ n: number }[]>(`SELECT n FROM ${table} ORDER BY n`);
    return rows.map(({ n }) => n);
  };
  const openGate = () => database.dataSource.query('INSERT INTO gate DEFAULT VALUES');
  const messagesInQueue = async (): Promise<number> => {
    const connection = await connectAmqp(RABBITMQ_URL);
    const channel = await connection.createChannel();
    const { messageCount } = await channel.checkQueue(`${service.name}.commands`);
    await connection.close();
    return messageCount;
  };
  const everyNumber = () => Array.from({ length: sent }, (_, n) => n + 1);

  it('stops taking, drains, commits, acknowledges and closes, in this order, and ends with 0', async () => {
    await start({ SHUTDOWN_DELAY_MS: '2000' });
    await send(60);
    await eventually(async () => expect((await numbersIn('begun')).length).toBeGreaterThanOrEqual(5));
    service.signal('SIGTERM');
    await eventually(async () => expect((await service.probe('ready')).status).toBe(503));
    expect((await service.probe('live')).status).toBe(200);
    await eventually(() => expect(service.messages.at(-1)).toMatch(/takes nothing new/));
    await send(20);
    expect(await numbersIn('effect')).toEqual([]);
    await openGate();
    expect(await service.exit).toBe(0);
    expect(service.messages.slice(service.messages.indexOf('stopping: not ready any more'))).toEqual([
      'stopping: not ready any more',
      'stopping: takes nothing new, finishes what is in hand',
      'stopping: closes the database',
      'stopped',
    ]);
    const effects = await numbersIn('effect');
    expect(effects).toEqual(await numbersIn('begun'));
    // What has committed is acknowledged, and nothing else.
    await eventually(async () => expect(await messagesInQueue()).toBe(sent - effects.length));

    await start({}, service.name);
    await eventually(async () => expect(await numbersIn('effect')).toEqual(everyNumber()));
  });

  it('ends past the deadline without a handler that hangs, says so with 1, and loses nothing', async () => {
    await start({ SHUTDOWN_DRAIN_MS: '300' });
    await send(3);
    await eventually(async () => expect(await numbersIn('begun')).toEqual([1, 2, 3]));
    service.signal('SIGTERM');
    expect(await service.exit).toBe(1);
    expect(service.complaints.join('\n')).toMatch(
      new RegExp(`not finished within SHUTDOWN_DRAIN_MS.*"${service.name}.commands":3`),
    );
    expect(service.messages).toContain('stopped');
    expect(service.messages).not.toContain('a message needs a human');
    await eventually(async () => expect(await messagesInQueue()).toBe(3));

    await openGate();
    await start({}, service.name);
    await eventually(async () => expect(await numbersIn('effect')).toEqual(everyNumber()));
  });
});
