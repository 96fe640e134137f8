import { eventually, openTestDataSource, seededRandom, uniqueName, type TestDataSource } from '@starter/testing';
import { connect as connectAmqp } from 'amqplib';
import { z } from 'zod';
import { CreateMessagingTables1760000000001 } from './database/create-messaging-tables.migration.js';
import { TransientError } from './errors.js';
import { silentLogger } from './logger.js';
import { MemoryCommandBroker } from './memory/memory-command-broker.js';
import { MemoryCommandTransport } from './memory/memory-command-transport.js';
import { MemoryEventTransport } from './memory/memory-event-transport.js';
import { Messaging } from './messaging.js';
import { nestedTable, RawAmqpClient, type RawAmqpMessage, type RawTable } from './rabbitmq/raw-amqp-client.js';
import { connectRabbitMq } from './rabbitmq/rabbitmq-command-transport.js';
import { deadLetterQueue } from './rabbitmq/queue-names.js';
import { commandsExchange, type CommandTransport } from './transport/command-transport.js';

interface Foreign {
  readonly transport: CommandTransport;
  send(key: string, message: RawAmqpMessage): void;
  /** Messages that lie in the queue. */
  waiting(queue: string): Promise<number>;
  close(queue: string): Promise<void>;
}

const url = process.env['RABBITMQ_URL'];
const brokers: [string, () => Promise<Foreign>][] = [['memory', memory]];
if (url) brokers.push(['rabbitmq', () => rabbitMq(url)]);

async function memory(): Promise<Foreign> {
  const broker = new MemoryCommandBroker();
  const transport = new MemoryCommandTransport(broker);
  const text = (value: string | Buffer | undefined) => (value === undefined ? {} : { value: value.toString() });
  return {
    transport,
    send: (key, { content, messageId, type, headers = [], timestamp, ...properties }) =>
      broker.publish(commandsExchange, key, {
        content,
        properties: {
          ...properties,
          ...(messageId === undefined ? {} : { messageId: text(messageId).value }),
          ...(type === undefined ? {} : { type: text(type).value }),
          ...(timestamp === undefined ? {} : { timestamp: Number(timestamp) }),
          headers: asObject(Buffer.isBuffer(headers) ? [] : headers),
        },
      }),
    waiting: async (queue) => broker.messages(queue).length,
    close: () => transport.close(),
  };
}

const asObject = (table: RawTable): Record<string, unknown> =>
  Object.fromEntries(
    table.map(([name, value]) => [
      name,
      typeof value === 'object' && !Buffer.isBuffer(value) ? asObject(value) : value,
    ]),
  );

async function rabbitMq(address: string): Promise<Foreign> {
  const [transport, raw, plain] = await Promise.all([
    connectRabbitMq({ url: address }),
    RawAmqpClient.open(address),
    connectAmqp(address),
  ]);
  const channel = await plain.createChannel();
  return {
    transport,
    send: (key, message) => raw.publish(commandsExchange, key, message),
    waiting: async (queue) => (await channel.checkQueue(queue)).messageCount,
    close: async (queue) => {
      await transport.close();
      for (const name of [queue, deadLetterQueue(queue)]) await channel.deleteQueue(name);
      await Promise.all([raw.close(), plain.close()]);
    },
  };
}

describe.each(brokers)('hostile commands on %s', (kind, open) => {
  let database: TestDataSource;
  let foreign: Foreign;
  let messaging: Messaging;
  let type: string;
  let handled: number[];
  let attempts: Map<number, number>;

  beforeEach(async () => {
    database = await openTestDataSource([CreateMessagingTables1760000000001]);
    foreign = await open();
    type = uniqueName('spec.do-it');
    [handled, attempts] = [[], new Map()];
    messaging = new Messaging({
      ...{ service: uniqueName('spec'), dataSource: database.dataSource, logger: silentLogger, partitions: 1 },
      ...{ commands: foreign.transport, events: new MemoryEventTransport(), stalledMs: 20_000 },
      failurePolicy: { maxRetries: 1, backoff: { baseMs: 100, maxMs: 100, jitter: 0 } },
    });
    const schema = z.object({ n: z.int(), fail: z.enum(['always', 'once']).optional() });
    const definition = { kind: 'command', type, version: 1, owner: 'spec', schema } as const;
    messaging.commands.handle(definition, async ({ data: { n, fail }, attempt }) => {
      attempts.set(n, attempt);
      if (fail === 'always') throw new Error('it fails');
      if (fail === 'once' && attempt === 1) throw new TransientError('it fails once');
      handled.push(n);
    });
    await messaging.onApplicationBootstrap();
  });
  afterEach(async () => {
    await messaging.beforeApplicationShutdown();
    await foreign.close(messaging.commands.queue);
    await database.close();
  });

  const body = (n: number, fields: object = {}) => Buffer.from(JSON.stringify({ n, ...fields }));
  const send = (n: number, message: Partial<RawAmqpMessage> = {}, fields: object = {}) =>
    foreign.send(type, { messageId: `id-${n}`, type, content: body(n, fields), ...message });
  const letters = () =>
    database.dataSource.query<
      { id: string; reason: string; error_type: string; redrivable: boolean; raw: Buffer | null }[]
    >('SELECT * FROM dead_letter ORDER BY reason');
  const settled = async () => {
    for (const queue of [messaging.commands.queue, deadLetterQueue(messaging.commands.queue)]) {
      await eventually(async () => expect([queue, await foreign.waiting(queue)]).toEqual([queue, 0]));
    }
    await eventually(() => expect(messaging.problems()).toEqual([]));
  };

  it('keeps each that cannot be read with its field and its bytes, and handles its neighbours', async () => {
    const nested = Buffer.from('['.repeat(100_000) + ']'.repeat(100_000));
    const hostile: [reason: string, message: Partial<RawAmqpMessage>][] = [
      ['message_id holds a control character', { messageId: 'a\0' }],
      ['message_id holds a control character', { messageId: 'a\nb' }],
      ['message_id holds a control character', { messageId: Buffer.from([0x61, 0xff]) }],
      ['message_id is missing', { messageId: '' }],
      ['type holds a control character', { type: 'a\0' }],
      ['app_id holds a control character', { appId: 'a\0' }],
      ['correlation_id holds a control character', { correlationId: '\u001f' }],
      ['reply_to holds a control character', { replyTo: 'a\r\n' }],
      ['header causation-id holds a control character', { headers: [['causation-id', 'a\0']] }],
      ['header causation-id takes 256 bytes', { headers: [['causation-id', 'x'.repeat(256)]] }],
      ['header subject takes 70000 bytes', { headers: [['subject', 'x'.repeat(70_000)]] }],
      ['header subject must be a string', { headers: [['subject', [['a', 'b']]]] }],
      ['header subject must be a string', { headers: [['subject', Buffer.from('bytes')]] }],
      ['header reply-subject takes 1001 bytes', { headers: [['reply-subject', 'x'.repeat(1_001)]] }],
      ['header version must be', { headers: [['version', 2 ** 53]] }],
      ['header sequence must be', { headers: [['sequence', -1]] }],
      ['header attempt must be', { headers: [['attempt', 2 ** 31]] }],
      ['header redrives must be', { headers: [['redrives', 2 ** 40]] }],
      ['header time "+275760', { headers: [['time', '+275760-09-13T00:00:00.000Z']] }],
      ['timestamp', { timestamp: 2n ** 62n }],
      ['the body is not UTF-8', { content: Buffer.from([0x22, 0xff, 0x22]) }],
      ['the body is not JSON', { content: Buffer.alloc(0) }],
      ['x of the body holds the character', { content: Buffer.from(String.raw`{"n":1,"x":"\u0000"}`) }],
      ['x of the body holds half', { content: Buffer.from(String.raw`{"n":1,"x":"\ud800"}`) }],
      ['nested too deep', { content: nested }],
    ];
    hostile.forEach(([, message], n) => {
      send(1_000 + n, message);
      send(n);
    });
    await eventually(async () => expect(await letters()).toHaveLength(hostile.length));
    await eventually(() => expect([...handled].sort((a, b) => a - b)).toEqual(hostile.map((_, n) => n)));
    const kept = await letters();
    for (const { error_type, redrivable, raw } of kept) {
      expect([error_type, redrivable, raw !== null]).toEqual(['UndecodableError', false, true]);
    }
    for (const [reason] of hostile) expect(kept.map((letter) => letter.reason).join('\n')).toContain(reason);
    expect(kept.some(({ raw }) => raw?.equals(nested))).toBe(true);
    await settled();
  });

  it('keeps one whose headers no client can read, and stays connected', async () => {
    if (kind === 'memory') return;
    const headers = nestedTable(10_000);
    for (let n = 0; n < 3; n += 1) {
      send(1_000 + n, { headers });
      send(n);
    }
    await eventually(async () => expect(await letters()).toHaveLength(3));
    await eventually(() => expect([...handled].sort()).toEqual([0, 1, 2]));
    for (const { reason, raw } of await letters()) {
      expect([reason, raw === null]).toEqual([expect.stringContaining('its headers cannot be read'), false]);
    }
    await settled();
  });

  const unwritable: [string, RawTable][] = [
    ['a header of 70 000 characters', [['theirs', 'x'.repeat(70_000)]]],
    [
      'a header table with the key !',
      [
        [
          'theirs',
          [
            ['!', 'odd'],
            ['value', 'a'],
          ],
        ],
      ],
    ],
  ];
  it.each(unwritable)(
    '150 with %s that fail are dead letters that can be redriven, and stop nobody',
    async (_, headers) => {
      for (let n = 0; n < 150; n += 1) send(n, { headers }, { fail: 'always' });
      send(1_000);
      await eventually(() => expect(handled).toEqual([1_000]));
      await eventually(async () => expect(await letters()).toHaveLength(150), { timeoutMs: 60_000 });
      for (const letter of await letters()) {
        expect(letter).toMatchObject({ reason: 'Error: it fails', error_type: 'Error', redrivable: true });
      }
      await settled();
    },
  );

  it.each(unwritable)('one with %s is tried again', async (_, headers) => {
    send(1, { headers }, { fail: 'once' });
    await eventually(() => expect([handled, attempts.get(1)]).toEqual([[1], 2]));
    expect(await letters()).toEqual([]);
    await settled();
  });

  it('takes in what others put among the dead letters: replies of 20 000 levels, reasons and counts that are none', async () => {
    const queue = deadLetterQueue(messaging.commands.queue);
    const nested = '['.repeat(20_000) + ']'.repeat(20_000);
    const channel = foreign.transport as unknown as { publishTo(queue: string, message: object): Promise<void> };
    const put = (n: number, headers: object, content = body(n)) =>
      channel.publishTo(queue, { properties: { messageId: `id-${n}`, type, headers }, content });
    await put(1, {}, Buffer.from(`{"requestId":"r","result":${nested}}`));
    await put(2, { 'x-dead-letter-reason': 'x'.repeat(20_000), 'x-dead-letter-attempts': '1e300' });
    await put(3, {
      'x-dead-letter-reason': 'a\0',
      'x-dead-letter-attempts': '-5',
      'x-dead-letter-time': '-000001-01-01',
    });
    await put(4, { 'x-dead-letter-wrapped': true }, Buffer.from('nonsense'));
    await put(5, { 'x-death': [null] });
    await eventually(async () => expect(await letters()).toHaveLength(5));
    await settled();
  });

  it('ends each of whatever is thrown at it, and handles all others', async () => {
    const random = seededRandom();
    const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
    const texts = ['', 'plain', 'a\0', '\n', 'ü'.repeat(120), '😀', '../..', '__proto__', '%00', '-1'];
    const long = [...texts, 'x'.repeat(1_001), 'x'.repeat(40_000)];
    const names = ['subject', 'time', 'version', 'sequence', 'attempt', 'redrives', 'causation-id', 'reply-subject'];
    const others = ['traceparent', 'x-death', 'CC', 'x-delivery-count', 'x-dead-letter-reason', '!', '', 'theirs'];
    const values = () =>
      pick<RawTable[number][1]>([
        pick(long),
        Math.round((random() - 0.3) * 2 ** 40),
        -0,
        1,
        Buffer.from([0xff, 0]),
        [['!', '']],
      ]);
    const contents = ['null', '"\\u0000"', '[', '{}', '{"n":"\\udc00"}', '[['.repeat(200) + ']]'.repeat(200), '1e999'];
    const count = 200;
    for (let n = 0; n < count; n += 1) {
      const headers = Array.from(
        { length: Math.floor(random() * 3) },
        () => [pick([...names, ...others]), values()] as const,
      );
      send(1_000 + n, {
        ...(random() < 0.2 ? { messageId: `${pick(texts)}${n}` } : {}),
        ...(random() < 0.1 ? { type: pick(texts) } : {}),
        ...(random() < 0.1 ? { correlationId: pick(texts) } : {}),
        ...(random() < 0.1 ? { timestamp: BigInt(Math.floor(random() * 2 ** 53)) } : {}),
        headers: [...headers.filter(([name]) => name !== 'CC'), ['n', n]],
        content:
          random() < 0.3
            ? Buffer.from(pick(contents))
            : body(1_000 + n, pick([{}, { fail: 'always' }, { fail: 'once' }])),
      });
      if (n % 4 === 0) send(n);
    }
    const ended = async () => {
      const [{ ids }] = await database.dataSource.query<[{ ids: number }]>(
        `SELECT (SELECT count(*) FROM dead_letter)::int + (SELECT count(*) FROM inbox_discarded)::int AS ids`,
      );
      return ids + handled.filter((n) => n >= 1_000).length;
    };
    await eventually(async () => expect(await ended()).toBe(count), { timeoutMs: 60_000 });
    const innocent = handled.filter((n) => n < 1_000).sort((a, b) => a - b);
    expect(innocent).toEqual(Array.from({ length: count / 4 }, (_, index) => 4 * index));
    await settled();
  });
});
