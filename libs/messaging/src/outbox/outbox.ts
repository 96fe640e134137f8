import { TerminalError } from '../errors.js';
import type { Message } from '../message.js';
import type { OutboxRow } from './outbox-row.js';
import { commandsExchange } from '../transport/command-transport.js';
import type { Statement, Transaction } from '../database/transaction.js';

export interface OutboxEntry {
  readonly channel: 'command' | 'event';
  /** Topic of an event; of a command the routing key on its exchange. */
  readonly address: string;
  /** Of a command. `''` takes it straight into the queue that the address names. Default: `commands`. */
  readonly exchange?: string;
  readonly message: Message;
  /** What has the same one is published in the order of writing, one after the other. Default: the subject, or else the id. */
  readonly orderingKey?: string;
}

// One array per column and `unnest`: one plan and one round trip for any number of rows. The messages are one JSON array: in a
// json[] each quotation mark had to be escaped here and unescaped there, and a row took 27 µs of this process instead of 17.
const insert: Statement = {
  name: 'outbox-insert',
  text: `INSERT INTO outbox (channel, exchange, address, ordering_key, message)
         SELECT * FROM ROWS FROM (unnest($1::text[], $2::text[], $3::text[], $4::text[]), json_array_elements($5))`,
};

// The rows come back in the order of their positions, which is that of the entries. Whoever has written before is found in the
// table of the relays: it stood there before it wrote.
const insertAndTell: Statement = {
  name: 'outbox-insert-and-tell',
  text: `${insert.text} RETURNING position, shard, NOT EXISTS (SELECT FROM outbox_relay WHERE holder <> $6) AS alone`,
};

// Each gets its old place back: of the events of a key it goes first.
const insertAgain: Statement = {
  name: 'outbox-insert-again',
  text: `INSERT INTO outbox (position, channel, exchange, address, ordering_key, message, redrives) OVERRIDING SYSTEM VALUE
         SELECT (origin ->> 'position')::bigint, origin ->> 'channel', origin ->> 'exchange', origin ->> 'address',
                origin ->> 'orderingKey', message, redrives
           FROM ROWS FROM (json_array_elements($1), json_array_elements($2), unnest($3::int[])) AS again (origin, message, redrives)
         ON CONFLICT DO NOTHING`,
};

type RowPlace = Pick<OutboxRow, 'position' | 'shard'>;
type Written = RowPlace & { readonly alone: boolean };

/** Where something goes. */
export type Address = Pick<OutboxEntry, 'channel' | 'address'>;

/** Rows as they are written. */
export interface Prepared {
  readonly columns: readonly unknown[];
  readonly addresses: readonly Address[];
  readonly entries: readonly OutboxEntry[];
  readonly keys: readonly string[];
}

/** Relays what is written. */
export interface OutboxReader {
  /** Its holder in the table of the relays, when it knows of no other: rows may go from their commit to the broker without being read. */
  readonly takesRowsAs: string | undefined;
  /** After a commit: rows to send, or addresses that have rows to be read. */
  written(addresses: readonly Address[], rows: readonly OutboxRow[] | undefined): void;
}

/** Kafka takes records of 1 MiB by default, with their headers. */
const defaultMostEventBytes = 1_000_000;

/** The headers of a record take less than that beside what stands in the envelope. */
const headerBytes = 1_000;

/** What an event may take beside the data that it passes on: less than that. */
const envelopeBytes = 2_000;

/**
 * A transaction that has failed here may have committed at the server, when its connection broke before the answer. For so long
 * rows of its keys are read and not handed over, so that they do not overtake what it may have written. By then the relay has
 * read that.
 */
const inDoubtMs = 120_000;

/** Messages written here are published if and only if the transaction commits. */
export class Outbox {
  private readonly readers: OutboxReader[] = [];
  /** Writes of each key whose transactions have not ended, or may have committed unseen: which came first is not known here. */
  private readonly writing = new Map<string, number>();

  /** Of an event as a record, with its headers. Its broker must take as many. */
  constructor(readonly mostEventBytes = defaultMostEventBytes) {}

  /** Bytes of the message's data as JSON, and the most that they may be if an event is to pass all of it on. */
  sizeToPassOn({ data }: Pick<Message, 'data'>): { readonly bytes: number; readonly most: number } {
    return { bytes: Buffer.byteLength(JSON.stringify(data)), most: this.mostEventBytes - envelopeBytes };
  }

  async add(tx: Transaction, entries: readonly OutboxEntry[]): Promise<void> {
    await this.write(tx, this.prepare(entries));
  }

  /**
   * For {@link write}, before anything is written.
   * @throws TerminalError for an event that is too large: its broker would never take it, and its key would wait for ever
   */
  prepare(entries: readonly OutboxEntry[]): Prepared | undefined {
    if (entries.length === 0) return undefined;
    const keys = entries.map(({ orderingKey, message }) => orderingKey ?? message.subject ?? message.id);
    const columns = [
      entries.map((entry) => entry.channel),
      entries.map(({ channel, exchange = commandsExchange }) => (channel === 'command' ? exchange : null)),
      entries.map((entry) => entry.address),
      keys,
      `[${entries.map((entry) => this.textOf(entry)).join()}]`,
    ];
    const addresses = new Map(entries.map(({ channel, address }) => [`${channel} ${address}`, { channel, address }]));
    return { columns, addresses: [...addresses.values()], entries, keys };
  }

  async write(tx: Transaction, prepared: Prepared | undefined): Promise<void> {
    if (!prepared) return;
    const { addresses, columns, keys } = prepared;
    const taker = this.readers.find(({ takesRowsAs }) => takesRowsAs !== undefined);
    const holder = taker?.takesRowsAs;
    this.begin(tx, new Set(keys));
    const written = await (holder === undefined
      ? tx.query<Written>(insert, columns)
      : tx.query<Written>(insertAndTell, [...columns, holder]));
    tx.afterCommit(() => {
      // Asked again: it may have seen another instance since then, and what that one has left is not read yet.
      const handedOver =
        written[0]?.alone && taker?.takesRowsAs === holder ? this.rowsOf(prepared, written) : undefined;
      for (const reader of this.readers) reader.written(addresses, reader === taker ? handedOver : undefined);
    });
  }

  private begin(tx: Transaction, keys: ReadonlySet<string>): void {
    for (const key of keys) this.writing.set(key, (this.writing.get(key) ?? 0) + 1);
    let committed = false;
    tx.afterCommit(() => (committed = true));
    tx.afterEnd(() => {
      if (committed) this.end(keys);
      else setTimeout(() => this.end(keys), inDoubtMs).unref();
    });
  }

  private end(keys: ReadonlySet<string>): void {
    for (const key of keys) {
      const left = (this.writing.get(key) ?? 1) - 1;
      if (left > 0) this.writing.set(key, left);
      else this.writing.delete(key);
    }
  }

  /** Undefined when another transaction writes one of the keys: it may have committed before this one, unseen so far. */
  private rowsOf({ entries, keys }: Prepared, places: readonly RowPlace[]): OutboxRow[] | undefined {
    if (keys.some((key) => (this.writing.get(key) ?? 0) > 1)) return undefined;
    const now = new Date();
    return entries.map(({ channel, exchange = commandsExchange, address, message }, at) => ({
      ...placeOf(places[at] as RowPlace),
      ...{ channel, exchange: channel === 'command' ? exchange : null, address, message },
      ...{ ordering_key: keys[at] as string, redrives: 0, written_at: now },
    }));
  }

  /** For messages that their broker has refused; `headers` are those of their dead letters. */
  async addAgain(
    tx: Transaction,
    refused: readonly { readonly message: Message | null; readonly redrives: number; readonly headers: unknown }[],
  ): Promise<void> {
    if (refused.length === 0) return;
    await tx.query(insertAgain, [
      JSON.stringify(refused.map(({ headers }) => headers)),
      JSON.stringify(refused.map(({ message }) => message)),
      refused.map(({ redrives }) => redrives),
    ]);
  }

  /** Called after a commit that wrote rows; spares the relay of this process the wait for its next poll. */
  onWritten(reader: OutboxReader): void {
    this.readers.push(reader);
  }

  private textOf({ channel, message }: OutboxEntry): string {
    const text = JSON.stringify(message);
    // A character is three bytes at most: few have to be counted.
    if (channel === 'command' || 3 * text.length + headerBytes <= this.mostEventBytes) return text;
    const bytes = Buffer.byteLength(text) + headerBytes;
    if (bytes <= this.mostEventBytes) return text;
    const what = `${message.type} takes up to ${bytes} bytes, and events of at most ${this.mostEventBytes} can be published`;
    throw new TerminalError(`${what}; make it smaller, or raise EVENT_MAX_BYTES and Kafka's message.max.bytes`);
  }
}

const placeOf = ({ position, shard }: RowPlace): RowPlace => ({ position, shard });
