import { eventually, openTestDataSource, seededRandom, uniqueName, type TestDataSource } from '@starter/testing';
import kafkajs from 'kafkajs';
import { z } from 'zod';
import { CreateMessagingTables1760000000001 } from './database/create-messaging-tables.migration.js';
import { connectKafka } from './kafka/kafka-event-transport.js';
import { silentLogger } from './logger.js';
import { MemoryCommandTransport } from './memory/memory-command-transport.js';
import { MemoryEventLog } from './memory/memory-event-log.js';
import { MemoryEventTransport } from './memory/memory-event-transport.js';
import { Messaging } from './messaging.js';
import type { EventTransport } from './transport/event-transport.js';

type Header = string | Buffer | null;
interface ForeignRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Record<string, Header | Header[]>;
  readonly timestamp?: string;
}

interface Foreign {
  readonly transport: EventTransport;
  send(topic: string, records: readonly ForeignRecord[]): Promise<void>;
  close(topic: string): Promise<void>;
}

const kafkaBrokers = process.env['KAFKA_BROKERS']?.split(',');
const logs: [string, () => Promise<Foreign>][] = [['memory', memory]];
if (kafkaBrokers) logs.push(['kafka', () => kafka(kafkaBrokers)]);

async function memory(): Promise<Foreign> {
  const log = new MemoryEventLog();
  const transport = new MemoryEventTransport(log);
  return {
    transport,
    send: async (topic, records) => {
      for (const record of records) log.append(topic, 0, record as never);
      log.wake(topic);
    },
    close: () => transport.close(),
  };
}

async function kafka(brokers: string[]): Promise<Foreign> {
  const plain = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING });
  const [producer, admin] = [plain.producer(), plain.admin()];
  const [transport] = await Promise.all([
    connectKafka({ brokers, clientId: 'spec' }),
    producer.connect(),
    admin.connect(),
  ]);
  return {
    transport,
    send: async (topic, records) => {
      // This client cannot write headers without a value; what comes of them is seen on the log in memory.
      const written = records.map(({ headers, ...record }) => ({
        ...record,
        partition: 0,
        headers: withValues(headers),
      }));
      // A batch of all of them would be larger than what a broker takes at once.
      while (written.length > 0) await producer.send({ topic, messages: written.splice(0, 20) as never });
    },
    close: async (topic) => {
      await transport.close();
      await admin.deleteTopics({ topics: [topic] });
      await Promise.all([producer.disconnect(), admin.disconnect()]);
    },
  };
}

const withValues = (headers: ForeignRecord['headers']): object =>
  Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) => {
      const values = [value].flat().filter((one) => one !== null);
      return values.length === 0 ? [] : [[name, Array.isArray(value) ? values : values[0]]];
    }),
  );

describe.each(logs)('hostile events on %s', (_, open) => {
  let database: TestDataSource;
  let foreign: Foreign;
  let messaging: Messaging;
  let [topic, reactor, ordered] = ['', '', ''];
  let reacted: number[];
  let inOrder: number[];

  beforeEach(async () => {
    database = await openTestDataSource([CreateMessagingTables1760000000001]);
    foreign = await open();
    [reacted, inOrder] = [[], []];
    const service = uniqueName('spec');
    [topic, reactor, ordered] = [`${service}.events`, `${service}.reactor`, `${service}.ordered`];
    messaging = new Messaging({
      ...{ service, dataSource: database.dataSource, logger: silentLogger, partitions: 1, stalledMs: 20_000 },
      ...{ commands: new MemoryCommandTransport(), events: foreign.transport },
      failurePolicy: { maxRetries: 0 },
    });
    const schema = z.object({ n: z.int() });
    const definition = { kind: 'event', type: 'spec.happened', version: 1, owner: 'spec', schema } as const;
    messaging.reactTo(topic, reactor).on(definition, async ({ data }) => void reacted.push(data.n));
    messaging.inSequence(topic, ordered).on(definition, async (events) => {
      inOrder.push(...events.map(({ data }) => data.n));
    });
    await messaging.onApplicationBootstrap();
  });
  afterEach(async () => {
    await messaging.beforeApplicationShutdown();
    await foreign.close(topic);
    await database.close();
  });

  const record = (n: number, fields: Partial<ForeignRecord> = {}): ForeignRecord => ({
    key: Buffer.from(`key-${n}`),
    value: Buffer.from(JSON.stringify({ n })),
    ...fields,
    headers: { ce_id: `id-${n}`, ce_type: 'spec.happened', ce_sequence: '1', ...fields.headers },
  });
  const letters = () =>
    database.dataSource.query<
      { consumer: string; reason: string; error_type: string; raw: Buffer | null; key: string | null }[]
    >('SELECT * FROM dead_letter');
  const settled = async () => {
    for (const name of [reactor, ordered]) {
      await eventually(async () => {
        const consumers = messaging.monitor.consumer(name).consumers;
        expect(await Promise.all(consumers.map(async (one) => [one.inFlight, await one.backlog()]))).toEqual([[0, 0]]);
      });
    }
    await eventually(() => expect(messaging.problems()).toEqual([]));
  };
  const byNumber = (numbers: readonly number[]) => [...numbers].sort((one, other) => one - other);

  it('keeps each that cannot be read with its field and its bytes, and handles its neighbours', async () => {
    const nested = Buffer.from('['.repeat(100_000) + ']'.repeat(100_000));
    const hostile: [reason: string, fields: Partial<ForeignRecord>][] = [
      ['ce_subject takes 7205 bytes', { headers: { ce_subject: 'x'.repeat(7_205) } }],
      ['the key takes 1001 bytes', { key: Buffer.alloc(1_001, 'x') }],
      ['neither a UTF-8 key nor ce_subject', { key: Buffer.from([0xff]) }],
      ['the key holds a control character', { key: Buffer.from('a\0') }],
      ['ce_subject holds a control character', { headers: { ce_subject: 'a\0' } }],
      ['ce_id holds a control character', { headers: { ce_id: 'a\nb' } }],
      ['ce_id takes 256 bytes', { headers: { ce_id: 'x'.repeat(256) } }],
      ['ce_id is missing', { headers: { ce_id: null } }],
      ['ce_type takes 20000 bytes', { headers: { ce_type: 't'.repeat(20_000) } }],
      ['ce_source is not UTF-8', { headers: { ce_source: Buffer.from([0xff]) } }],
      ['ce_correlationid holds a control character', { headers: { ce_correlationid: 'a\0' } }],
      ['ce_causationid holds a control character', { headers: { ce_causationid: '\u007f' } }],
      ['ce_replyto takes 300 bytes', { headers: { ce_replyto: 'r'.repeat(300), ce_replysubject: 's' } }],
      ['ce_dataversion must be', { headers: { ce_dataversion: String(2 ** 53) } }],
      ['ce_sequence is "-1"', { headers: { ce_sequence: '-1' } }],
      ['ce_sequence must be', { headers: { ce_sequence: '99999999999' } }],
      ['ce_time "+275760', { headers: { ce_time: '+275760-09-13T00:00:00Z' } }],
      ['nested too deep', { value: nested }],
      ['x of the value holds the character', { value: Buffer.from(String.raw`{"n":1,"x":"\u0000"}`) }],
      ['x of the value holds half', { value: Buffer.from(String.raw`{"n":1,"x":"\udfff"}`) }],
      ['the value is not UTF-8', { value: Buffer.from([0x22, 0xff, 0x22]) }],
      ['the value is not JSON', { value: Buffer.alloc(0) }],
    ];
    const numbers = hostile.map((_, n) => n);
    await foreign.send(
      topic,
      hostile.flatMap(([, fields], n) => [record(1_000 + n, fields), record(n)]),
    );
    await eventually(() => expect([byNumber(reacted), byNumber(inOrder)]).toEqual([numbers, numbers]));
    await eventually(async () => expect(await letters()).toHaveLength(2 * hostile.length));
    const kept = await letters();
    for (const { error_type, raw } of kept) expect([error_type, raw !== null]).toEqual(['UndecodableError', true]);
    for (const [reason] of hostile) {
      expect([reason, kept.filter((letter) => letter.reason.includes(reason)).length]).toEqual([reason, 2]);
    }
    expect(kept.filter(({ raw }) => raw?.equals(nested))).toHaveLength(2);
    await settled();
  });

  it('handles what is only unusual: headers without a value, repeated ones, a trace that is none', async () => {
    await foreign.send(topic, [
      record(1, { headers: { ce_causationid: null, ce_traceparent: 'garbage', ce_correlationid: '' } }),
      record(2, { headers: { ce_sequence: ['1', '7'], ce_source: [null, 'spec'] as Header[] } }),
      record(3, { timestamp: '1' }),
    ]);
    await eventually(() =>
      expect([byNumber(reacted), byNumber(inOrder)]).toEqual([
        [1, 2, 3],
        [1, 2, 3],
      ]),
    );
    expect(await letters()).toEqual([]);
    await settled();
  });

  it('ends each of whatever is thrown at it, and handles all others', async () => {
    const random = seededRandom();
    const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
    const texts: Header[] = [
      null,
      '',
      'plain',
      'a\0',
      '\n',
      'ü'.repeat(200),
      '😀',
      '__proto__',
      '-1',
      '0',
      '1e3',
      '1.5',
    ];
    const headers = [...texts, 'x'.repeat(1_001), 'x'.repeat(50_000), Buffer.from([0xff]), String(2 ** 31), '2'];
    const names = [
      'id',
      'type',
      'source',
      'time',
      'subject',
      'dataversion',
      'correlationid',
      'sequence',
      'causationid',
    ];
    const all = [...names, 'traceparent', 'replyto', 'replysubject'].map((name) => `ce_${name}`);
    const values = [
      null,
      Buffer.alloc(0),
      Buffer.from('null'),
      Buffer.from('"\\ud800"'),
      Buffer.from('['.repeat(5_000)),
    ];
    const count = 200;
    const records = Array.from({ length: count }, (_, n) => {
      const some = Array.from({ length: 1 + Math.floor(random() * 3) }, () => [pick(all), pick(headers)] as const);
      const fields: Partial<ForeignRecord> = {
        ...(random() < 0.2
          ? { key: pick([null, Buffer.alloc(0), Buffer.from([0xff]), Buffer.alloc(3_000, 'k')]) }
          : {}),
        ...(random() < 0.2 ? { value: pick(values) } : {}),
        headers: Object.fromEntries(some),
      };
      return [record(1_000 + n, fields), ...(n % 4 === 0 ? [record(n)] : [])];
    });
    await foreign.send(topic, records.flat());
    const innocent = Array.from({ length: count / 4 }, (_, index) => 4 * index);
    const those = (numbers: readonly number[]) => byNumber(numbers.filter((n) => n < 1_000));
    await eventually(() => expect([those(reacted), those(inOrder)]).toEqual([innocent, innocent]));
    await settled();
  });
});
