import {
  admitOnce,
  createMessage,
  CreateMessagingTables1760000000001,
  inTransaction,
  Outbox,
  OutboxRelay,
  RetentionJob,
  type CommandTransport,
  type EventTransport,
  type Message,
} from '@starter/messaging';
import { max } from 'simple-statistics';
import type { DataSource } from 'typeorm';
import type { Benchmark, Figures, Setting } from '../benchmark.js';
import { openDataSource } from '../connections.js';
import { reached } from '../reached.js';
import { logger } from '../servers.js';
import { WrongWorkError } from '../rounds.js';

const batch = 200;
const writers = 4;
const keys = 1_000;
/** So short that the inbox of a soak is purged as that of months would be, milliseconds. */
const keepMs = 10_000;

/** Many messages through the inbox and the outbox: does anything grow? */
export const soak: Benchmark = (setting) =>
  Promise.resolve({ comparisons: [], report: () => measureSoak(setting), close: () => Promise.resolve() });

async function measureSoak({ servers, quick }: Setting): Promise<Figures> {
  // So many that the tables have come to their size long before the end, whatever the machine.
  const total = quick ? 4_000 : 5_000_000;
  const database = await servers.createDatabase([CreateMessagingTables1760000000001]);
  const dataSource = await openDataSource(database.url, 8);
  const outbox = new Outbox();
  const sink = new Sink();
  const relay = new OutboxRelay({ dataSource, outbox, logger, ...sink.transports });
  const inbox = { table: 'inbox', column: 'received_at', retentionMs: keepMs };
  const retention = new RetentionJob(dataSource, [inbox], logger, 1_000);
  const samples: Sample[] = [];
  const sampling = setInterval(() => void sample(dataSource).then((seen) => samples.push(seen)), 1_000);
  try {
    relay.start();
    retention.start();
    const start = performance.now();
    await Promise.all(Array.from({ length: writers }, (_, writer) => write(dataSource, outbox, sink, writer, total)));
    await reached(() => relay.published, total);
    const seconds = (performance.now() - start) / 1_000;
    samples.push(await sample(dataSource));
    if (sink.inOrder !== total) throw new WrongWorkError(`${sink.inOrder} of ${total} came in order, once`);
    const quarters = [0, 1, 2, 3].map((n) => samples.slice(...quarter(samples.length, n)));
    const peak = (column: keyof Sample) =>
      Object.fromEntries(
        quarters.map((seen, n) => [`${column}, peak of quarter ${n + 1}`, max(seen.map((one) => one[column]))]),
      );
    return {
      title: `soak: ${total.toLocaleString('en-US')} messages through the inbox and the outbox, the inbox kept for ${keepMs / 1_000} s`,
      figures: {
        'messages/s': total / seconds,
        ...peak('MiB resident'),
        ...peak('MiB of the inbox'),
        ...peak('MiB of the outbox'),
        'inbox rows purged': retention.purged,
      },
    };
  } finally {
    clearInterval(sampling);
    await retention.stop();
    await relay.stop();
    await dataSource.destroy();
    await database.drop();
  }
}

const quarter = (length: number, n: number): [number, number] => {
  const from = Math.min(length - 1, Math.floor((length * n) / 4));
  return [from, Math.max(from + 1, Math.floor((length * (n + 1)) / 4))];
};

interface Sample {
  readonly 'MiB resident': number;
  readonly 'MiB of the inbox': number;
  readonly 'MiB of the outbox': number;
}

async function sample(dataSource: DataSource): Promise<Sample> {
  const [sizes] = await dataSource.query<[{ inbox: number; outbox: number }]>(
    `SELECT pg_total_relation_size('inbox')::float8 AS inbox, pg_total_relation_size('outbox')::float8 AS outbox`,
  );
  return {
    'MiB resident': process.memoryUsage().rss / 2 ** 20,
    'MiB of the inbox': sizes.inbox / 2 ** 20,
    'MiB of the outbox': sizes.outbox / 2 ** 20,
  };
}

/** Each writer has keys of its own, and waits while much is on its way. */
async function write(dataSource: DataSource, outbox: Outbox, sink: Sink, writer: number, total: number): Promise<void> {
  const share = total / writers;
  for (let done = 0; done < share; done += batch) {
    const messages = Array.from({ length: Math.min(batch, share - done) }, (_, n) => {
      const number = done + n;
      const subject = `${writer}-${number % keys}`;
      const sequence = Math.floor(number / keys) + 1;
      return createMessage({ type: 'soak.done', version: 1, source: 'bench', subject, sequence, data: { number } });
    });
    await inTransaction(dataSource, async (tx) => {
      await admitOnce(
        tx,
        messages.map(({ id: messageId }) => ({ consumer: 'soak', messageId })),
      );
      await outbox.add(
        tx,
        messages.map((message) => ({ channel: 'event', address: 'soak.events', message })),
      );
    });
    await reached(() => sink.inOrder, writers * (done - 10 * batch));
  }
}

/** A broker that takes everything and keeps nothing but the last sequence of each key. */
class Sink {
  inOrder = 0;
  private readonly last = new Map<string, number>();

  readonly transports = {
    commands: { connected: true } as CommandTransport,
    events: {
      connected: true,
      publish: async (topic: string, messages: readonly Message[]) => {
        for (const { subject = '', sequence = 0 } of messages) {
          if (sequence !== (this.last.get(subject) ?? 0) + 1) continue;
          this.last.set(subject, sequence);
          this.inOrder += 1;
        }
        return messages.map((_, offset) => ({ topic, partition: 0, offset: String(offset) }));
      },
    } as unknown as EventTransport,
  };
}
