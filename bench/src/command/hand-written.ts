import { newMessageId, type Message } from '@starter/messaging';
import { connect, type Channel, type ConsumeMessage } from 'amqplib';
import type { PoolClient } from 'pg';
import { Deposit, Deposited, streamOf, type DepositData } from '../account.js';
import { openPool } from '../connections.js';
import { queueOf } from './command-queue.js';
import { poolSize, prefetch, type CommandConsumer, type Urls } from './command-consumer.js';

const statements = {
  admit: {
    name: 'admit',
    text: `INSERT INTO inbox (consumer, message_id) SELECT $1, unnest($2::text[])
           ON CONFLICT DO NOTHING RETURNING message_id`,
  },
  load: {
    name: 'load',
    text: `SELECT stream_id, max(sequence)::int AS sequence FROM event WHERE stream_id = ANY($1) GROUP BY 1`,
  },
  append: {
    name: 'append',
    text: `INSERT INTO event (stream_id, sequence, id, type, version, data, correlation_id, causation_id, command,
                              recorded_at)
           SELECT * FROM unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::int[], $6::jsonb[], $7::text[],
                                $8::text[], $9::text[], $10::timestamptz[])`,
  },
  outbox: {
    name: 'outbox',
    text: `INSERT INTO outbox (channel, address, ordering_key, message)
           SELECT 'event', $1, * FROM unnest($2::text[], $3::json[])`,
  },
};

/** What somebody writes who wants speed and knows how: one loop over amqplib and pg, a transaction for what has arrived. */
export async function consumeByHand(service: string, urls: Urls): Promise<{ consume(): Promise<CommandConsumer> }> {
  const pool = await openPool(urls.database, poolSize);
  const connection = await connect(urls.rabbitMq);
  const channel = await connection.createChannel();
  await channel.prefetch(prefetch);
  const loop = new Loop(await pool.connect(), channel, service);
  let stopped: Promise<void> | undefined;
  return {
    async consume() {
      await channel.consume(queueOf(service), (raw) => raw && loop.receive(raw));
      return { settled: () => loop.settled, stop: () => (stopped ??= stop()) };
    },
  };

  async function stop(): Promise<void> {
    await channel.close();
    await connection.close();
    loop.client.release();
    await pool.end();
  }
}

class Loop {
  settled = 0;
  private arrived: ConsumeMessage[] = [];
  private busy = false;
  /** Last sequence by stream. */
  private readonly sequences = new Map<string, number>();

  constructor(
    readonly client: PoolClient,
    private readonly channel: Channel,
    private readonly service: string,
  ) {}

  receive(raw: ConsumeMessage): void {
    this.arrived.push(raw);
    if (!this.busy) void this.run();
  }

  private async run(): Promise<void> {
    this.busy = true;
    // One turn later, so that what arrives together travels together.
    await Promise.resolve();
    for (let batch = this.take(); batch.length > 0; batch = this.take()) {
      try {
        await this.inTransaction(batch);
        const last = batch.at(-1);
        if (last) this.channel.ack(last, true);
        this.settled += batch.length;
      } catch (error) {
        console.error('hand-written:', error);
        await this.client.query('ROLLBACK');
        this.sequences.clear();
        for (const raw of batch) this.channel.nack(raw);
      }
    }
    this.busy = false;
  }

  private take(): ConsumeMessage[] {
    const batch = this.arrived;
    this.arrived = [];
    return batch;
  }

  private async inTransaction(batch: readonly ConsumeMessage[]): Promise<void> {
    const { client } = this;
    const ids = batch.map(({ properties }) => String(properties.messageId));
    await client.query('BEGIN');
    const { rows } = await client.query<{ message_id: string }>({
      ...statements.admit,
      values: [queueOf(this.service), ids],
    });
    const fresh = new Set(rows.map(({ message_id }) => message_id));
    const commands = batch.filter((_, index) => fresh.delete(ids[index] ?? '')).map(read);
    await this.load(commands.map(({ stream }) => stream));
    const events = commands.map((command) => this.decide(command));
    await client.query({
      ...statements.append,
      values: [
        events.map(({ subject }) => subject),
        events.map(({ sequence }) => sequence),
        events.map(({ id }) => id),
        events.map(({ type }) => type),
        events.map(({ version }) => version),
        events.map(({ data }) => JSON.stringify(data)),
        events.map(({ correlationId }) => correlationId),
        events.map(({ causationId }) => causationId),
        events.map(() => Deposit.type),
        events.map(({ time }) => time),
      ],
    });
    await client.query({
      ...statements.outbox,
      values: [
        `${this.service}.events`,
        events.map(({ subject }) => subject),
        events.map((event) => JSON.stringify(event)),
      ],
    });
    await client.query('COMMIT');
  }

  private async load(streams: readonly string[]): Promise<void> {
    const unknown = [...new Set(streams)].filter((stream) => !this.sequences.has(stream));
    if (unknown.length === 0) return;
    const { rows } = await this.client.query<{ stream_id: string; sequence: number }>({
      ...statements.load,
      values: [unknown],
    });
    for (const stream of unknown) this.sequences.set(stream, 0);
    for (const { stream_id, sequence } of rows) this.sequences.set(stream_id, sequence);
  }

  private decide({ id, correlationId, data, stream }: Read): Message<DepositData> {
    const sequence = (this.sequences.get(stream) ?? 0) + 1;
    this.sequences.set(stream, sequence);
    return {
      id: newMessageId(),
      type: Deposited.type,
      version: Deposited.version,
      source: this.service,
      time: new Date().toISOString(),
      subject: stream,
      sequence,
      correlationId,
      causationId: id,
      data,
    };
  }
}

interface Read {
  readonly id: string;
  readonly correlationId: string;
  readonly stream: string;
  readonly data: DepositData;
}

function read({ properties, content }: ConsumeMessage): Read {
  const data = JSON.parse(content.toString()) as DepositData;
  return {
    id: String(properties.messageId),
    correlationId: String(properties.correlationId),
    stream: streamOf(data.accountId),
    data,
  };
}
