import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import kafkajs from 'kafkajs';
import { startKafka } from '@starter/local-backends';
import { InvalidMessageError, NotConfirmedError, publishResults, RefusedError, UnroutableError } from '../errors.js';
import { consumerGroupId } from '../kafka/consumer-group-id.js';
import { connectKafka } from '../kafka/kafka-event-transport.js';
import { MemoryEventLog } from '../memory/memory-event-log.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { createMessage, type Message, type MessageFields } from '../message.js';
import { deadLetter, discard, done, retry, type Outcome } from '../outcome.js';
import { deadLetterHeaders, type Consumer, type Delivery } from './delivery.js';
import { deadLetterTopic, type EventTransport } from './event-transport.js';
import { partitionOfKey } from './partition-of-key.js';

/** A record as a client of another language sees it. */
interface PlainRecord {
  readonly partition: number;
  readonly offset: string;
  readonly key: string | null;
  readonly value: Buffer | null;
  readonly headers: Record<string, string>;
}

/** Another process that consumes: it settles what says `settle: true` in its data, and nothing else ever. */
interface Victim {
  /** Values of `n` in the data of what it was given, in that order. */
  readonly received: readonly number[];
  /** As SIGKILL does. */
  kill(): Promise<void>;
}

/** What the suite needs of a log besides the transport: a plain client, processes to kill, a broker to restart. */
interface TestLog {
  connect(options?: {
    publishTimeoutMs?: number;
    sessionTimeoutMs?: number;
    maxRecordBytes?: number;
    lookMs?: number;
  }): Promise<EventTransport>;
  put(topic: string, record: { key: string | null; value: Buffer; headers: Record<string, string> }): Promise<void>;
  /** All records of the topic, in the order of offsets within each partition. */
  read(topic: string): Promise<PlainRecord[]>;
  /** Committed offset per partition, 0 where there is none. */
  committed(topic: string, group: string): Promise<number[]>;
  victim(topic: string, group: string): Promise<Victim>;
  /** As an administrator does it. */
  raise(topic: string, partitions: number): Promise<void>;
  /** Whether the broker compacts the topic, sooner or later. */
  compacts(topic: string): Promise<boolean>;
  remove(topics: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

interface CrashingLog extends TestLog {
  crash(): Promise<void>;
  restart(): Promise<void>;
}

interface Adapter {
  readonly name: string;
  open(): Promise<TestLog>;
  openCrashing(): Promise<CrashingLog>;
}

const memory: Adapter = { name: 'memory', open: async () => memoryLog(), openCrashing: async () => memoryLog() };

function memoryLog(): CrashingLog {
  const log = new MemoryEventLog({ rebalanceDrainMs: 500 });
  return {
    connect: async (options = {}) => new MemoryEventTransport(log, options),
    put: async (topic, { key, value, headers }) => {
      const partition = key === null ? 0 : partitionOfKey(Buffer.from(key), log.partitionsOf(topic));
      log.append(topic, partition, { key: key === null ? null : Buffer.from(key), value, headers });
      log.wake(topic);
    },
    read: async (topic) => log.read(topic).map(asPlainRecord),
    committed: async (topic, group) => log.committed(topic, group),
    victim: async (topic, group) => {
      const transport = new MemoryEventTransport(log);
      const received: number[] = [];
      await transport.subscribe({ topic, group }, ({ message }) => {
        const { n, settle } = message.data as { n: number; settle: boolean };
        received.push(n);
        return settle ? Promise.resolve(done) : new Promise(() => undefined);
      });
      return { received, kill: async () => transport.crash() };
    },
    raise: async (topic, partitions) => log.raisePartitions(topic, partitions),
    compacts: async (topic) => {
      const keys = log.read(topic).map(({ key }) => String(key));
      return new Set(keys).size === keys.length;
    },
    remove: async () => undefined,
    close: async () => undefined,
    crash: async () => log.stop(),
    restart: async () => log.start(),
  };
}

const kafka = (brokers: string): Adapter => ({
  name: 'kafka',
  open: async () => kafkaLog(brokers),
  openCrashing: async () => {
    const backend = await startKafka();
    return {
      ...kafkaLog(backend.url),
      crash: () => backend.kill(),
      restart: () => backend.start(),
      close: () => backend.stop(),
    };
  },
});

function kafkaLog(brokers: string): TestLog {
  const plain = new kafkajs.Kafka({ brokers: [brokers], clientId: 'plain', logLevel: kafkajs.logLevel.NOTHING });
  const withAdmin = async <T>(use: (admin: ReturnType<typeof plain.admin>) => Promise<T>): Promise<T> => {
    const admin = plain.admin();
    await admin.connect();
    try {
      return await use(admin);
    } finally {
      await admin.disconnect();
    }
  };
  return {
    connect: (options = {}) => connectKafka({ brokers: [brokers], clientId: 'conformance', ...options }),
    put: async (topic, record) => {
      const producer = plain.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
      await producer.connect();
      await producer.send({ topic, messages: [record] });
      await producer.disconnect();
    },
    read: async (topic) => {
      const offsets = await withAdmin((admin) => admin.fetchTopicOffsets(topic));
      const total = offsets.reduce((sum, { high }) => sum + Number(high), 0);
      const records: PlainRecord[] = [];
      const consumer = plain.consumer({ groupId: `reader-${randomUUID()}`, maxWaitTimeInMs: 100 });
      await consumer.connect();
      await consumer.subscribe({ topic, fromBeginning: true });
      await consumer.run({
        eachMessage: async ({ partition, message }) => {
          records.push(asPlainRecord({ partition, ...message, headers: message.headers ?? {} }));
        },
      });
      await until(() => records.length >= total);
      await consumer.disconnect();
      return records.sort((a, b) => a.partition - b.partition || Number(a.offset) - Number(b.offset));
    },
    committed: async (topic, group) => {
      const groupId = consumerGroupId(topic, group);
      const [fetched] = await withAdmin((admin) => admin.fetchOffsets({ groupId, topics: [topic] }));
      const partitions = [...(fetched?.partitions ?? [])].sort((a, b) => a.partition - b.partition);
      return partitions.map(({ offset }) => Math.max(0, Number(offset)));
    },
    victim: (topic, group) => startVictimProcess(brokers, topic, group),
    raise: (topic, count) =>
      withAdmin(async (admin) => void (await admin.createPartitions({ topicPartitions: [{ topic, count }] }))),
    compacts: (topic) =>
      withAdmin(async (admin) => {
        const resource = { type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configNames: ['cleanup.policy'] };
        const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] });
        return resources[0]?.configEntries[0]?.configValue === 'compact';
      }),
    remove: (topics) =>
      withAdmin(async (admin) => {
        const existing = await admin.listTopics();
        await admin.deleteTopics({ topics: topics.filter((topic) => existing.includes(topic)) });
      }),
    close: async () => undefined,
  };
}

function asPlainRecord(record: {
  partition: number;
  offset: bigint | string;
  key: Buffer | null;
  value: Buffer | null;
  headers: Record<string, unknown>;
}): PlainRecord {
  const { partition, offset, key, value, headers } = record;
  return {
    ...{ partition, value },
    offset: String(offset),
    key: key?.toString() ?? null,
    headers: Object.fromEntries(Object.entries(headers).map(([name, content]) => [name, String(content)])),
  };
}

const messagingFolder = fileURLToPath(new URL('../..', import.meta.url));
const compiledFolder = fileURLToPath(new URL(`../../../../.cache/victim-${randomUUID()}`, import.meta.url));
let compiled: Promise<void> | undefined;

/** Compiles the library as its build does: a process of its own cannot load TypeScript. */
async function compileVictim(): Promise<void> {
  const swc = fileURLToPath(new URL('../../../../node_modules/@swc/cli/bin/swc.js', import.meta.url));
  const options = ['--strip-leading-paths', '--quiet', '--ignore', '**/*.spec.ts', '--config-file', '../../.swcrc'];
  const compiler = spawn(process.execPath, [swc, 'src', '--out-dir', compiledFolder, ...options], {
    cwd: messagingFolder,
    stdio: 'inherit',
  });
  const code = await new Promise((resolve) => compiler.once('exit', resolve));
  if (code !== 0) throw new Error(`swc ended with ${String(code)}: see its output above`);
  await writeFile(
    `${compiledFolder}/victim.js`,
    `import { connectKafka } from './kafka/kafka-event-transport.js';
     const [brokers, topic, group] = process.argv.slice(2);
     const transport = await connectKafka({ brokers: [brokers], clientId: 'victim', sessionTimeoutMs: 6000 });
     await transport.subscribe({ topic, group }, ({ message }) => {
       console.log(message.data.n);
       return message.data.settle ? Promise.resolve({ kind: 'done' }) : new Promise(() => undefined);
     });
     console.log('ready');`,
  );
}

async function startVictimProcess(brokers: string, topic: string, group: string): Promise<Victim> {
  compiled ??= compileVictim();
  await compiled;
  const child = spawn(process.execPath, [`${compiledFolder}/victim.js`, brokers, topic, group], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const received: number[] = [];
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    createInterface(child.stdout).on('line', (line) => (line === 'ready' ? resolve() : received.push(Number(line))));
    child.once('exit', (code) => reject(new Error(`the victim ended with ${String(code)} before it was ready`)));
  });
  return {
    received,
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** Waits for a state, never for a time. */
async function until(condition: () => boolean | Promise<boolean>, timeoutMs = 30_000): Promise<void> {
  for (const deadline = Date.now() + timeoutMs; !(await condition());) {
    if (Date.now() > deadline) throw new Error(`never came true: ${condition.toString()}`);
    await sleep(10);
  }
}

function gate<T>(): { readonly opened: Promise<T>; open(value: T): void } {
  let open!: (value: T) => void;
  const opened = new Promise<T>((resolve) => (open = resolve));
  return { opened, open };
}

const event = (subject: string, data: object = {}, fields: Partial<MessageFields> = {}): Message =>
  createMessage({ type: 'test.happened', version: 1, source: 'conformance', subject, data, ...fields });

const numbered = (subject: string, count: number, from = 1): Message[] =>
  Array.from({ length: count }, (_, i) => event(subject, { n: from + i }));

const numberOf = ({ message }: Delivery): number => (message.data as { n: number }).n;

/** A key of each partition. */
const keysOf = (partitions: number): string[] =>
  Array.from({ length: partitions }, (_, partition) => {
    for (let i = 0; ; i++) if (partitionOfKey(Buffer.from(`key-${i}`), partitions) === partition) return `key-${i}`;
  });

const adapters = process.env['KAFKA_BROKERS'] ? [memory, kafka(process.env['KAFKA_BROKERS'])] : [memory];

afterAll(() => rm(compiledFolder, { recursive: true, force: true }));

describe.each(adapters)('event transport: $name', ({ open, openCrashing }) => {
  let log: TestLog;
  let transport: EventTransport;
  const topics: string[] = [];
  const consumers: Consumer[] = [];
  const opened: EventTransport[] = [];

  beforeAll(async () => {
    log = await open();
    transport = await log.connect({ sessionTimeoutMs: 6_000, lookMs: 500 });
  });
  afterEach(async () => {
    await Promise.all(consumers.splice(0).map((consumer) => consumer.close(0)));
    await Promise.all(opened.splice(0).map((other) => other.close()));
  });
  afterAll(async () => {
    await transport.close();
    await log.remove(topics);
    await log.close();
  });

  const newTopic = async (partitions: number): Promise<string> => {
    const name = `conformance-${randomUUID()}`;
    topics.push(name);
    await transport.declare([{ name, partitions }]);
    return name;
  };
  const newGroup = (topic: string): string => {
    const group = `group-${randomUUID()}`;
    topics.push(deadLetterTopic(topic, group));
    return group;
  };
  const connectAnother = async (): Promise<EventTransport> => {
    const other = await log.connect({ sessionTimeoutMs: 6_000 });
    opened.push(other);
    return other;
  };
  /** Subscribes, collects, and answers with what `outcomeOf` says. */
  const consume = async (
    topic: string,
    group: string,
    outcomeOf: (delivery: Delivery) => Outcome | Promise<Outcome> = () => done,
    { concurrency, by = transport }: { concurrency?: number; by?: EventTransport } = {},
  ) => {
    const deliveries: Delivery[] = [];
    const options = { topic, group, ...(concurrency === undefined ? {} : { concurrency }) };
    const consumer = await by.subscribe(options, async (delivery) => {
      deliveries.push(delivery);
      return outcomeOf(delivery);
    });
    consumers.push(consumer);
    return { consumer, deliveries, numbers: () => deliveries.map(numberOf) };
  };

  describe('publishing', () => {
    it('reports the exact position of every message, over several partitions in one call', async () => {
      const topic = await newTopic(4);
      const messages = Array.from({ length: 50 }, (_, i) => event(`key-${i % 7}`, { i }));
      const positions = [
        ...(await transport.publish(topic, messages.slice(0, 30))),
        ...(await transport.publish(topic, messages.slice(30))),
      ];
      expect(new Set(positions.map(({ partition }) => partition)).size).toBeGreaterThan(1);
      const records = await log.read(topic);
      expect(records).toHaveLength(50);
      const found = positions.map(({ partition, offset }) =>
        records.find((record) => record.partition === partition && record.offset === offset),
      );
      expect(found.map((record) => record?.headers['ce_id'])).toEqual(messages.map(({ id }) => id));
    });

    it('keeps positions exact and keys in order under concurrent calls of two clients', async () => {
      const topic = await newTopic(3);
      const other = await connectAnother();
      const batches = Array.from({ length: 40 }, (_, batch) =>
        Array.from({ length: 60 }, (_, i) => event(`key-${batch % 2}-${i % 5}`, { n: batch * 60 + i })),
      );
      const positions = await Promise.all(
        batches.map((messages, batch) => (batch % 2 === 0 ? transport : other).publish(topic, messages)),
      );
      const records = await log.read(topic);
      expect(records).toHaveLength(40 * 60);
      const idAt = new Map(
        records.map(({ partition, offset, headers }) => [`${partition}/${offset}`, headers['ce_id']]),
      );
      const idsThere = positions.flat().map(({ partition, offset }) => idAt.get(`${partition}/${offset}`));
      expect(idsThere).toEqual(batches.flat().map(({ id }) => id));
      for (const key of new Set(records.map((record) => record.key))) {
        const ofKey = records.filter((record) => record.key === key);
        const numbers = ofKey.map(({ value }) => (JSON.parse(String(value)) as { n: number }).n);
        expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
      }
    });

    it('splits what is too much for one request', async () => {
      const topic = await newTopic(2);
      const messages = Array.from({ length: 2_500 }, (_, n) => event(`key-${n % 3}`, { n, filler: 'x'.repeat(700) }));
      const positions = await transport.publish(topic, messages);
      const records = await log.read(topic);
      const idAt = new Map(
        records.map(({ partition, offset, headers }) => [`${partition}/${offset}`, headers['ce_id']]),
      );
      expect(positions.map(({ partition, offset }) => idAt.get(`${partition}/${offset}`))).toEqual(
        messages.map(({ id }) => id),
      );
    });

    it('sends a key to the partition that every Java compatible client computes', async () => {
      const topic = await newTopic(5);
      const keys = Array.from({ length: 30 }, () => randomUUID());
      for (const round of [1, 2]) {
        const positions = await transport.publish(
          topic,
          keys.map((key) => event(key, { round })),
        );
        expect(positions.map(({ partition }) => partition)).toEqual(
          keys.map((key) => partitionOfKey(Buffer.from(key), 5)),
        );
      }
    });

    it('writes JSON with ce_ headers that a plain client can read', async () => {
      const topic = await newTopic(1);
      const message = event('user-1', { name: 'Zoë', at: new Date(0) }, { sequence: 3, causationId: 'cause' });
      await transport.publish(topic, [message]);
      const [record] = await log.read(topic);
      expect(record?.key).toBe('user-1');
      expect(String(record?.value)).toBe('{"name":"Zoë","at":"1970-01-01T00:00:00.000Z"}');
      expect(record?.headers).toEqual({
        ce_specversion: '1.0',
        ce_id: message.id,
        ce_type: 'test.happened',
        ce_source: 'conformance',
        ce_time: message.time,
        ce_subject: 'user-1',
        ce_dataversion: '1',
        ce_sequence: '3',
        ce_correlationid: message.correlationId,
        ce_causationid: 'cause',
        'content-type': 'application/json',
      });
    });

    it('hands over no references: what the sender changes later stays unchanged', async () => {
      const topic = await newTopic(1);
      const data = { n: 1 };
      await transport.publish(topic, [event('a', data)]);
      data.n = 2;
      const { deliveries, numbers } = await consume(topic, newGroup(topic));
      await until(() => deliveries.length === 1);
      expect(numbers()).toEqual([1]);
    });

    it('refuses exactly what cannot be written, and nothing overtakes it in its key', async () => {
      const topic = await newTopic(1);
      const { subject: _, ...keyless } = event('a');
      const cycle: Record<string, unknown> = {};
      cycle['self'] = cycle;
      const messages = [event('a'), keyless, event('b', { data: cycle }), event('b'), event('c')];
      const error: unknown = await transport.publish(topic, messages).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(InvalidMessageError);
      const results = publishResults(error, messages.length);
      expect(results.map((result) => (result instanceof Error ? result.name : result.offset))).toEqual([
        ...['0', 'InvalidMessageError', 'InvalidMessageError', 'NotConfirmedError', '1'],
      ]);
      expect(results.map((result) => result instanceof RefusedError && result.blames)).toEqual([
        ...[false, 'message', 'message', false, false],
      ]);
      expect((await log.read(topic)).map(({ key }) => key)).toEqual(['a', 'c']);
    });

    it('resolves an empty call to nothing', async () => {
      expect(await transport.publish(await newTopic(1), [])).toEqual([]);
    });
  });

  describe('topics', () => {
    it('declares again what exists', async () => {
      const name = await newTopic(3);
      const other = await connectAnother();
      await other.declare([{ name, partitions: 3 }]);
    });

    it('takes a topic that has more partitions than are declared as it is', async () => {
      const name = await newTopic(3);
      const other = await connectAnother();
      await other.declare([{ name, partitions: 2 }]);
      const keys = keysOf(3);
      const positions = await other.publish(
        name,
        keys.map((key) => event(key)),
      );
      expect(positions.map(({ partition }) => partition)).toEqual([0, 1, 2]);
    });

    it('rejects a topic with fewer partitions, says how to raise it, and creates nothing of that declaration', async () => {
      const name = await newTopic(3);
      const other = await connectAnother();
      const fresh = `conformance-${randomUUID()}`;
      const declared = other.declare([
        { name: fresh, partitions: 1 },
        { name, partitions: 4 },
      ]);
      await expect(declared).rejects.toThrow(
        `topic "${name}" has 3 partitions, fewer than the 4 that are declared. Raise it first ` +
          `(kafka-topics.sh --alter --topic ${name} --partitions 4)`,
      );
      await expect(other.publish(fresh, [event('a')])).rejects.toThrow(UnroutableError);
    });

    it('follows a raise while it runs: publishes to the new partitions and reads them, what it has not settled included', async () => {
      const name = await newTopic(2);
      const consumer = await consume(name, newGroup(name));
      await transport.publish(name, numbered('a', 3));
      await until(() => consumer.deliveries.length === 3);
      await log.raise(name, 8);
      const keys = keysOf(8);
      let n = 10;
      // A send may fail while the producer learns of it, as in every change of the cluster: whoever publishes sends again.
      const seen = new Set<number>();
      await until(async () => {
        const sent = await transport
          .publish(
            name,
            keys.map((key) => event(key, { n: n++ })),
          )
          .catch(() => []);
        for (const { partition } of sent) seen.add(partition);
        return seen.size === 8;
      });
      const partitionsRead = () => new Set(consumer.deliveries.map(({ origin }) => /\[(\d+)\]/.exec(origin)?.[1]));
      await until(() => partitionsRead().size === 8);
      await consumer.consumer.close();
    });

    it('compacts a topic that is declared so, and hands over the latest record of each key, and what comes later', async () => {
      const name = `conformance-${randomUUID()}`;
      topics.push(name);
      await transport.declare([{ name, partitions: 1, compacted: true }]);
      await transport.publish(name, [...numbered('a', 3), ...numbered('b', 2, 10), event('a', { n: 4 })]);
      expect(await log.compacts(name)).toBe(true);
      const { deliveries, consumer } = await consume(name, newGroup(name));
      const latest = () =>
        Object.fromEntries(deliveries.map((delivery) => [delivery.message.subject, numberOf(delivery)]));
      await until(() => latest()['a'] === 4 && latest()['b'] === 11);
      await transport.publish(name, [event('b', { n: 12 })]);
      await until(() => latest()['b'] === 12);
      await consumer.close();
      const kept = await newTopic(1);
      await transport.publish(kept, numbered('a', 2));
      expect(await log.compacts(kept)).toBe(false);
    });

    it('says what to do about a topic to publish to that does not exist', async () => {
      const missing = `conformance-${randomUUID()}`;
      const publishing = transport.publish(missing, [event('a')]);
      await expect(publishing).rejects.toThrow(/does not exist: call declare/);
      await expect(publishing).rejects.toMatchObject({ name: 'UnroutableError', blames: 'destination' });
    });

    it('waits for a topic to consume that does not exist yet, says so, and reads it from its beginning', async () => {
      const late = `conformance-${randomUUID()}`;
      topics.push(late);
      const { deliveries, consumer } = await consume(late, newGroup(late));
      expect(consumer.attached).toBe(false);
      await until(() => consumer.problem?.includes(`topic "${late}" does not exist yet`) ?? false);
      expect(await consumer.backlog()).toBe(0);
      const owner = await connectAnother();
      await owner.declare([{ name: late, partitions: 2 }]);
      await owner.publish(late, numbered('a', 2));
      await until(() => deliveries.length === 2);
      expect(consumer.problem).toBeUndefined();
      expect(consumer.attached).toBe(true);
    });

    it('can be closed while it waits for a topic', async () => {
      const never = `conformance-${randomUUID()}`;
      const { consumer } = await consume(never, newGroup(never));
      await consumer.close();
      expect(consumer.attached).toBe(false);
    });
  });

  describe('consuming', () => {
    it('starts handlers in the order of a key and hands over the whole envelope', async () => {
      const topic = await newTopic(3);
      const messages = Array.from({ length: 300 }, (_, n) => event(`key-${n % 10}`, { n }));
      await transport.publish(topic, messages);
      const { deliveries } = await consume(topic, newGroup(topic), async () => {
        await sleep(Math.random() * 5);
        return done;
      });
      await until(() => deliveries.length === 300);
      for (let key = 0; key < 10; key++) {
        const ofKey = deliveries.map(({ message }) => message).filter(({ subject }) => subject === `key-${key}`);
        expect(ofKey).toEqual(messages.filter(({ subject }) => subject === `key-${key}`));
      }
      expect(deliveries[0]?.attempt).toBe(1);
      expect(deliveries[0]?.origin).toBe(
        `${topic}[${partitionOfKey(Buffer.from(deliveries[0]!.message.subject!), 3)}]@0`,
      );
    });

    it('says of what lay there before that somebody may have been given it, as far as a member may have had it in hand', async () => {
      const topic = await newTopic(1);
      await transport.publish(topic, numbered('a', 1_200));
      const published = Date.now();
      await until(() => Date.now() > published);
      const { deliveries } = await consume(topic, newGroup(topic), async () => done);
      await until(() => deliveries.length === 1_200);
      await transport.publish(topic, numbered('a', 100, 1_201));
      await until(() => deliveries.length === 1_300);
      const known = deliveries.filter(({ redelivered }) => redelivered).map(numberOf);
      expect(known).toEqual(Array.from({ length: 1_000 }, (_, n) => n + 1));
    });

    it('runs no more handlers at once than allowed, and that many if there is work', async () => {
      const topic = await newTopic(2);
      await transport.publish(
        topic,
        Array.from({ length: 60 }, (_, n) => event(`key-${n}`, { n })),
      );
      let [running, most] = [0, 0];
      const { deliveries } = await consume(
        topic,
        newGroup(topic),
        async () => {
          most = Math.max(most, ++running);
          await sleep(2);
          running--;
          return done;
        },
        { concurrency: 4 },
      );
      await until(() => deliveries.length === 60);
      expect(most).toBe(4);
    });

    it('goes one by one with a concurrency of 1', async () => {
      const topic = await newTopic(1);
      await transport.publish(topic, numbered('a', 10));
      let running = 0;
      const overlaps: number[] = [];
      const { deliveries, numbers } = await consume(
        topic,
        newGroup(topic),
        async () => {
          if (++running > 1) overlaps.push(running);
          await sleep(1);
          running--;
          return done;
        },
        { concurrency: 1 },
      );
      await until(() => deliveries.length === 10);
      expect(overlaps).toEqual([]);
      expect(numbers()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    });

    it('receives what is published later', async () => {
      const topic = await newTopic(2);
      const { deliveries, consumer } = await consume(topic, newGroup(topic));
      expect(consumer.attached).toBe(true);
      await transport.publish(topic, numbered('a', 3));
      await until(() => deliveries.length === 3);
      await transport.publish(topic, numbered('b', 3));
      await until(() => deliveries.length === 6);
    });

    it('gives every group all records from the earliest on, each at its own pace', async () => {
      const topic = await newTopic(2);
      const [early, late] = [newGroup(topic), newGroup(topic)];
      await transport.publish(topic, numbered('a', 5));
      const first = await consume(topic, early);
      await until(() => first.deliveries.length === 5);
      await transport.publish(topic, numbered('a', 5, 6));
      const second = await consume(topic, late);
      await until(() => first.deliveries.length === 10 && second.deliveries.length === 10);
      expect(second.numbers()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    });

    it('shares the partitions among the members, each record once, and hands them over when one leaves', async () => {
      const topic = await newTopic(4);
      const keys = keysOf(4);
      const group = newGroup(topic);
      const first = await consume(topic, group);
      const second = await consume(topic, group, () => done, { by: await connectAnother() });
      await until(() => first.consumer.attached && second.consumer.attached);
      await transport.publish(
        topic,
        keys.flatMap((key) => numbered(key, 25)),
      );
      await until(() => first.deliveries.length + second.deliveries.length === 100);
      expect(first.deliveries.length).toBe(50);
      expect(second.deliveries.length).toBe(50);

      await second.consumer.close();
      expect(second.consumer.attached).toBe(false);
      await transport.publish(
        topic,
        keys.flatMap((key) => numbered(key, 5, 26)),
      );
      await until(() => first.deliveries.length === 70);
      const all = [...first.deliveries, ...second.deliveries].map(({ message }) => message.id);
      expect(new Set(all).size).toBe(120);
      expect(all).toHaveLength(120);
    });

    it('reads several topics as the same group', async () => {
      const [one, two] = [await newTopic(2), await newTopic(3)];
      const group = newGroup(one);
      topics.push(deadLetterTopic(two, group));
      const [ofOne, ofTwo] = await Promise.all([consume(one, group), consume(two, group)]);
      await transport.publish(
        one,
        keysOf(2).map((key) => event(key, { n: 1 })),
      );
      await transport.publish(
        two,
        keysOf(3).map((key) => event(key, { n: 2 })),
      );
      await until(() => ofOne.deliveries.length === 2 && ofTwo.deliveries.length === 3);
      expect([...ofOne.numbers(), ...ofTwo.numbers()]).toEqual([1, 1, 2, 2, 2]);
    });

    it('keeps a partition however long a handler takes', async () => {
      const topic = await newTopic(1);
      const group = newGroup(topic);
      await transport.publish(topic, numbered('a', 2));
      const slow = await consume(topic, group, async (delivery) => {
        if (numberOf(delivery) === 1) await sleep(8_000); // longer than the session timeout
        return done;
      });
      await until(async () => (await log.committed(topic, group))[0] === 2);
      expect(slow.numbers()).toEqual([1, 2]);
      expect(slow.consumer.attached).toBe(true);
    });
  });

  describe('settling', () => {
    it('commits only after success, and delivers again what a killed process had not settled', async () => {
      const topic = await newTopic(1);
      const group = newGroup(topic);
      const victim = await log.victim(topic, group);
      await transport.publish(topic, numbered('a', 3));
      await until(() => victim.received.length === 3);
      expect(await log.committed(topic, group)).toEqual([0]);
      await victim.kill();

      const successor = await consume(topic, group);
      await until(() => successor.deliveries.length === 3);
      expect(successor.numbers()).toEqual([1, 2, 3]);
      await until(async () => (await log.committed(topic, group))[0] === 3);
    });

    it('never commits past a gap: what was settled later does not cover what came earlier', async () => {
      const topic = await newTopic(1);
      const group = newGroup(topic);
      const victim = await log.victim(topic, group);
      const settleable = [true, false, true, true];
      await transport.publish(
        topic,
        settleable.map((settle, i) => event('a', { n: i + 1, settle })),
      );
      await until(async () => victim.received.length === 4 && (await log.committed(topic, group))[0] === 1);
      await victim.kill();

      const successor = await consume(topic, group);
      await until(() => successor.deliveries.length === 3);
      expect(successor.numbers()).toEqual([2, 3, 4]);
    });

    it('retries in place with a rising attempt while later records go on, and holds the offset back', async () => {
      const topic = await newTopic(1);
      const group = newGroup(topic);
      const thirdAttempt = gate<Outcome>();
      const { deliveries, consumer } = await consume(
        topic,
        group,
        (delivery) => {
          if (numberOf(delivery) !== 1) return done;
          return delivery.attempt < 3 ? retry(20, 'not yet') : thirdAttempt.opened;
        },
        { concurrency: 2 },
      );
      await transport.publish(topic, [...numbered('poor', 1), ...numbered('lucky', 9, 2)]);
      await until(() => deliveries.length === 12);
      const attempts = deliveries.filter((delivery) => numberOf(delivery) === 1).map(({ attempt }) => attempt);
      expect(attempts).toEqual([1, 2, 3]);
      expect(consumer.inFlight).toBe(1);
      expect(await log.committed(topic, group)).toEqual([0]);
      thirdAttempt.open(done);
      await until(async () => (await log.committed(topic, group))[0] === 10);
      expect(consumer.inFlight).toBe(0);
    });

    it('lets a record that waits for its retry pass its slot on', async () => {
      const topic = await newTopic(1);
      const group = newGroup(topic);
      await transport.publish(topic, numbered('a', 3));
      const { numbers } = await consume(
        topic,
        group,
        (delivery) => (numberOf(delivery) === 1 && delivery.attempt === 1 ? retry(200, 'later') : done),
        { concurrency: 1 },
      );
      await until(async () => (await log.committed(topic, group))[0] === 3);
      expect(numbers()).toEqual([1, 2, 3, 1]);
    });

    it('treats a handler that throws as a retry', async () => {
      const topic = await newTopic(1);
      const group = newGroup(topic);
      await transport.publish(topic, numbered('a', 1));
      const { deliveries } = await consume(topic, group, ({ attempt }) => {
        if (attempt === 1) throw new Error('a defect');
        return done;
      });
      await until(async () => (await log.committed(topic, group))[0] === 1);
      expect(deliveries.map(({ attempt }) => attempt)).toEqual([1, 2]);
    });

    it('drops what the handler discards', async () => {
      const topic = await newTopic(1);
      const group = newGroup(topic);
      await transport.publish(topic, numbered('a', 2));
      const { numbers } = await consume(topic, group, () => discard('of no use'));
      await until(async () => (await log.committed(topic, group))[0] === 2);
      expect(numbers()).toEqual([1, 2]);
      expect(await log.read(deadLetterTopic(topic, group))).toEqual([]);
    });

    it('writes a dead letter with its reason before the offset is committed', async () => {
      const topic = await newTopic(1);
      const group = newGroup(topic);
      const message = event('user-1', { n: 1 }, { sequence: 1 });
      await transport.publish(topic, [message, ...numbered('user-2', 1, 2)]);
      const { deliveries } = await consume(topic, group, (delivery) => {
        if (numberOf(delivery) !== 1) return done;
        return delivery.attempt === 1 ? retry(0, 'once more') : deadLetter('cannot be', 'TerminalError');
      });
      await until(async () => (await log.committed(topic, group))[0] === 2);
      expect(deliveries).toHaveLength(3);
      const letters = await log.read(deadLetterTopic(topic, group));
      expect(letters).toHaveLength(1);
      expect(letters[0]?.key).toBe('user-1');
      expect(String(letters[0]?.value)).toBe('{"n":1}');
      expect(letters[0]?.headers).toMatchObject({
        ce_id: message.id,
        ce_type: message.type,
        ce_sequence: '1',
        [deadLetterHeaders.reason]: 'cannot be',
        [deadLetterHeaders.errorType]: 'TerminalError',
        [deadLetterHeaders.origin]: `${topic}[0]@0`,
        [deadLetterHeaders.consumer]: group,
        [deadLetterHeaders.attempts]: '2',
        [deadLetterHeaders.time]: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      });
    });

    it('keeps the raw bytes of what is no message, and handles the next record', async () => {
      const topic = await newTopic(1);
      const group = newGroup(topic);
      const headers = { ce_id: '1', ce_type: 'test.happened', 'x-trace': 'kept' };
      const broken = Buffer.from([0x7b, 0xff, 0x00, 0x7d]);
      await log.put(topic, { key: 'a', value: broken, headers });
      await log.put(topic, { key: null, value: Buffer.from('{"n":1}'), headers });
      await log.put(topic, { key: 'a', value: Buffer.from('{"n":1}'), headers: {} });
      await transport.publish(topic, numbered('a', 1, 2));
      const { numbers } = await consume(topic, group);
      await until(async () => (await log.committed(topic, group))[0] === 4);
      expect(numbers()).toEqual([2]);

      const letters = await log.read(deadLetterTopic(topic, group));
      expect(letters.map(({ key }) => key)).toEqual(['a', null, 'a']);
      expect(letters[0]?.value?.equals(broken)).toBe(true);
      expect(letters[0]?.headers['x-trace']).toBe('kept');
      for (const letter of letters) expect(letter.headers[deadLetterHeaders.errorType]).toBe('UndecodableError');
      const reasons = letters.map((letter) => letter.headers[deadLetterHeaders.reason]);
      expect(reasons).toEqual([
        expect.stringContaining('not UTF-8'),
        expect.stringContaining('neither a UTF-8 key nor ce_subject'),
        expect.stringContaining('ce_id is missing'),
      ]);
    });

    it('lets running handlers finish before their partitions go to another member', async () => {
      const topic = await newTopic(2);
      const group = newGroup(topic);
      const finish = gate<Outcome>();
      await transport.publish(
        topic,
        keysOf(2).flatMap((key) => numbered(key, 1)),
      );
      const former = await consume(topic, group, () => finish.opened);
      await until(() => former.deliveries.length === 2);
      const joining = consume(topic, group, () => done, { by: await connectAnother() });
      await until(() => !former.consumer.attached);
      finish.open(done);
      const joined = await joining;
      await until(() => former.consumer.attached && joined.consumer.attached);
      expect(await log.committed(topic, group)).toEqual([1, 1]);
      await transport.publish(
        topic,
        keysOf(2).flatMap((key) => numbered(key, 1, 2)),
      );
      await until(() => former.deliveries.length + joined.deliveries.length >= 4);
      expect([...former.numbers(), ...joined.numbers()]).toEqual([1, 1, 2, 2]);
    });

    it('lets no late settlement of a lost partition move the offset', async () => {
      const topic = await newTopic(2);
      const group = newGroup(topic);
      const [late, current] = [gate<Outcome>(), gate<Outcome>()];
      await transport.publish(
        topic,
        keysOf(2).flatMap((key) => numbered(key, 1)),
      );
      const former = await consume(topic, group, () => late.opened);
      await until(() => former.deliveries.length === 2);
      // The rebalance waits for the running handlers, but not for ever.
      const owner = await consume(topic, group, () => current.opened, { by: await connectAnother() });
      await until(() => owner.deliveries.length === 1 && former.consumer.attached);
      const [lost] = owner.deliveries.map(({ origin }) => Number(/\[(\d)\]/.exec(origin)?.[1]));
      const kept = 1 - lost!;

      late.open(done);
      await until(async () => (await log.committed(topic, group))[kept] === 1);
      expect((await log.committed(topic, group))[lost!]).toBe(0);
      current.open(done);
      await until(async () => (await log.committed(topic, group))[lost!] === 1);
      // What stayed with the former owner was not delivered twice.
      expect(former.deliveries).toHaveLength(2);
      expect(owner.deliveries).toHaveLength(1);
    });

    it('does not take a settlement from a former ownership for one of the present', async () => {
      const topic = await newTopic(2);
      const group = newGroup(topic);
      const [late, current] = [gate<Outcome>(), gate<Outcome>()];
      await transport.publish(
        topic,
        keysOf(2).flatMap((key) => numbered(key, 1)),
      );
      let calls = 0;
      const member = await consume(topic, group, () => (++calls > 2 ? current.opened : late.opened));
      await until(() => member.deliveries.length === 2);
      const visitor = await consume(topic, group, () => new Promise(() => undefined), { by: await connectAnother() });
      await until(() => visitor.deliveries.length === 1);
      await visitor.consumer.close(0);
      await until(() => member.deliveries.length === 3);
      const regained = Number(/\[(\d)\]/.exec(member.deliveries[2]!.origin)?.[1]);

      late.open(done);
      await until(async () => (await log.committed(topic, group))[1 - regained] === 1);
      expect((await log.committed(topic, group))[regained]).toBe(0);
      current.open(done);
      await until(async () => (await log.committed(topic, group))[regained] === 1);
    });
  });

  describe('closing', () => {
    it('waits for the handlers in flight, commits them and takes nothing new', async () => {
      const topic = await newTopic(1);
      const group = newGroup(topic);
      await transport.publish(topic, numbered('a', 5));
      const finish = gate<Outcome>();
      const { consumer, deliveries } = await consume(topic, group, () => finish.opened, { concurrency: 2 });
      await until(() => deliveries.length === 2);
      const closed = consumer.close();
      finish.open(done);
      await closed;
      expect(deliveries).toHaveLength(2);
      expect(await log.committed(topic, group)).toEqual([2]);
      expect(consumer.attached).toBe(false);
      await consumer.close();

      const successor = await consume(topic, group);
      await until(() => successor.deliveries.length === 3);
      expect(successor.numbers()).toEqual([3, 4, 5]);
    });

    it('gives back what does not finish in time, also what waits for a retry', async () => {
      const topic = await newTopic(1);
      const group = newGroup(topic);
      await transport.publish(topic, numbered('a', 3));
      const stuck = await consume(topic, group, (delivery) => {
        const n = numberOf(delivery);
        return n === 1 ? done : n === 2 ? retry(60_000, 'much later') : new Promise(() => undefined);
      });
      await until(async () => stuck.deliveries.length === 3 && (await log.committed(topic, group))[0] === 1);
      await stuck.consumer.close(100);
      const successor = await consume(topic, group);
      await until(() => successor.deliveries.length === 2);
      expect(successor.numbers()).toEqual([2, 3]);
    });

    it('is connected again after the broker refused a publication, without being asked for another one', async () => {
      const topic = await newTopic(1);
      const other = await log.connect({ maxRecordBytes: 3_000_000 });
      // More than the topic takes; a log in memory takes it.
      await other.publish(topic, [event('a', { text: 'x'.repeat(2_000_000) })]).catch(() => undefined);
      await until(() => other.connected);
      await other.close();
    });

    it('closes its consumers with the transport, and refuses what comes later', async () => {
      const topic = await newTopic(1);
      const other = await log.connect();
      const { consumer } = await consume(topic, newGroup(topic), () => done, { by: other });
      await other.close();
      expect(consumer.attached).toBe(false);
      expect(other.connected).toBe(false);
      await expect(other.publish(topic, [event('a')])).rejects.toThrow(NotConfirmedError);
    });
  });

  it('comes back after the broker crashed, and loses nothing', async () => {
    const crashing = await openCrashing();
    const client = await crashing.connect({ sessionTimeoutMs: 6_000 });
    const impatient = await crashing.connect({ publishTimeoutMs: 500 });
    try {
      await client.declare([{ name: 'restart', partitions: 2 }]);
      await impatient.declare([{ name: 'restart', partitions: 2 }]);
      const warmUp = () => impatient.publish('restart', numbered('warm-up', 1, 0));
      await until(() =>
        warmUp().then(
          () => true,
          () => false,
        ),
      );
      const received = new Set<number>();
      const finish = gate<Outcome>();
      let failing = true;
      const consumer = await client.subscribe({ topic: 'restart', group: 'g' }, async (delivery) => {
        received.add(numberOf(delivery));
        // In flight while the broker crashes: settled too late, so it has to come again.
        return numberOf(delivery) === 5 && failing ? finish.opened : done;
      });
      await client.publish('restart', numbered('a', 5));
      await until(() => received.size === 6);

      await crashing.crash();
      await until(() => !client.connected && !consumer.attached);
      await expect(impatient.publish('restart', numbered('lost', 1, 99))).rejects.toThrow(NotConfirmedError);
      failing = false;
      finish.open(done);
      const waiting = client.publish('restart', numbered('a', 5, 6)).catch((error: unknown) => error);
      await crashing.restart();
      await until(() => client.connected && consumer.attached, 60_000);

      // Unknown outcomes are sent again; the receivers know duplicates by their ids.
      if ((await waiting) instanceof NotConfirmedError) await client.publish('restart', numbered('a', 5, 6));
      await until(() => received.size >= 11, 60_000);
      await until(async () => {
        const committed = await crashing.committed('restart', 'g');
        const records = await crashing.read('restart');
        return committed.reduce((sum, offset) => sum + offset, 0) === records.length;
      }, 60_000);
      expect([...received].filter((n) => n !== 99).sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    } finally {
      await Promise.all([client.close(), impatient.close()]);
      await crashing.close();
    }
  }, 120_000);
});
