import { LRUCache } from 'lru-cache';
import { randomBytes } from 'node:crypto';
import type { DataSource } from 'typeorm';
import {
  Batches,
  createMessage,
  type Message,
  type Outbox,
  type OutboxEntry,
  runStatement,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import { KeyCreated, KeyErased, keyTopic } from './key-messages.js';
import type { MasterKey } from './master-key.js';
import { nameOf, type Subject } from './sealed-text.js';

// One statement for both tables, because each is a round trip in the transaction of a request. Sorted, so that transactions
// that need the same keys wait for each other in one order and never in a circle.
const create: Statement = {
  name: 'personal-key-create',
  text: `WITH new AS (SELECT * FROM unnest($2::text[], $3::text[], $4::json[]) AS new (subject, wrapped_key, message)),
              created AS (INSERT INTO personal_key (owner, subject, wrapped_key)
                          SELECT $1::text, subject, wrapped_key FROM new ORDER BY subject
                          ON CONFLICT DO NOTHING RETURNING subject),
              told AS (INSERT INTO outbox (channel, address, ordering_key, message)
                       SELECT 'event', $5::text, subject, message FROM new JOIN created USING (subject))
         SELECT subject FROM created`,
};
const learn: Statement = {
  name: 'personal-key-learn',
  text: `INSERT INTO personal_key (owner, subject, wrapped_key)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) ORDER BY 1, 2 ON CONFLICT DO NOTHING`,
};
const select: Statement = {
  name: 'personal-key-find',
  text: `SELECT owner, subject, wrapped_key AS "wrappedKey"
           FROM unnest($1::text[], $2::text[]) AS wanted (owner, subject) JOIN personal_key USING (owner, subject)`,
};
// Erasure wins, in whatever order it comes with the creation: that one never replaces a row.
const erase: Statement = {
  name: 'personal-key-erase',
  text: `INSERT INTO personal_key AS known (owner, subject, erased_at)
         SELECT DISTINCT owner, subject, now() FROM unnest($1::text[], $2::text[]) AS gone (owner, subject) ORDER BY 1, 2
         ON CONFLICT (owner, subject) DO UPDATE SET wrapped_key = NULL, erased_at = coalesce(known.erased_at, now())`,
};
const selectAny: Statement = {
  name: 'personal-key-any',
  text: `SELECT owner, subject, wrapped_key AS "wrappedKey" FROM personal_key
          WHERE wrapped_key IS NOT NULL ORDER BY owner LIMIT 1`,
};

type Row = Subject & { readonly wrappedKey: string | null } & Record<string, unknown>;
type Query = (statement: Statement, values: readonly unknown[]) => Promise<Row[]>;

export interface WrappedKey extends Subject {
  readonly wrappedKey: string;
}

/** `null` = erased. */
export type Keys = ReadonlyMap<string, Buffer | null>;

export interface PersonalKeysOptions {
  readonly service: string;
  readonly dataSource: DataSource;
  readonly outbox: Outbox;
  readonly masterKey: MasterKey;
}

/** The keys of subjects: random, stored wrapped in the master key, one row for each. */
export class PersonalKeys {
  /** Of subjects of this service, by subject; only what is committed. Ten minutes: a key does not stay in memory unused. */
  private readonly cache = new LRUCache<string, Buffer>({ max: 10_000, ttl: 600_000 });
  private readonly uncommitted = new WeakMap<Transaction, Map<string, Buffer>>();

  private readonly asked: Batches<Subject, Row | undefined>;
  private readonly created: Batches<WrappedKey, undefined>;
  private readonly erased: Batches<Subject, undefined>;

  constructor(private readonly options: PersonalKeysOptions) {
    const { dataSource } = options;
    const run: Query = (statement, values) => runStatement(dataSource, statement, values);
    this.asked = new Batches(async (subjects) => {
      const found = new Map((await run(select, columnsOf(subjects))).map((row) => [nameOf(row), row]));
      return subjects.map((subject) => found.get(nameOf(subject)));
    });
    this.created = new Batches<WrappedKey, undefined>(async (keys) => {
      await run(learn, [...columnsOf(keys), keys.map(({ wrappedKey }) => wrappedKey)]);
      return [];
    });
    this.erased = new Batches<Subject, undefined>(async (subjects) => {
      await run(erase, columnsOf(subjects));
      return [];
    });
  }

  /**
   * Keys of subjects of this service, made where there are none yet. One that is in memory is taken from there: it may have
   * been erased elsewhere a moment ago, and what is sealed with it then is as good as erased.
   */
  async toSealFor(tx: Transaction, subjects: readonly string[]): Promise<Keys> {
    const keys = this.inMemory(tx, subjects);
    const strangers = subjects.filter((subject) => !keys.has(subject));
    const created = await this.create(tx, strangers);
    for (const [subject, key] of created) keys.set(subject, key);
    await this.addStored(tx, keys, strangers);
    return keys;
  }

  /** Keys of subjects of this service, without those that do not exist. */
  async inUse(tx: Transaction, subjects: readonly string[]): Promise<Keys> {
    const keys = this.inMemory(tx, subjects);
    await this.addStored(tx, keys, subjects);
    return keys;
  }

  /** What the database says now, by `owner/subject`, without those that it does not know. */
  async stored(subjects: readonly Subject[]): Promise<Keys> {
    const rows = await Promise.all(subjects.map((subject) => this.asked.call(subject)));
    return new Map(rows.flatMap((row) => (row ? [[nameOf(row), this.unwrap(row)]] : [])));
  }

  /** Destroys the keys of subjects of this service, which can never have one again. */
  async erase(tx: Transaction, subjects: readonly string[]): Promise<void> {
    const { service, outbox } = this.options;
    if (subjects.length === 0) return;
    await tx.query(erase, columnsOf(subjects.map((subject) => ({ owner: service, subject }))));
    tx.afterCommit(() => subjects.forEach((subject) => this.cache.delete(subject)));
    await outbox.add(
      tx,
      subjects.map((subject): OutboxEntry => {
        return { channel: 'event', address: keyTopic(service), message: this.message(KeyErased.type, { subject }) };
      }),
    );
  }

  /** A key of another service. */
  learnCreated(key: WrappedKey): Promise<void> {
    return this.created.call(key);
  }

  /** A key of another service is gone. */
  learnErased(subject: Subject): Promise<void> {
    return this.erased.call(subject);
  }

  /** @throws TerminalError when the keys in the database were wrapped in another master key */
  async check(): Promise<void> {
    const [row] = await runStatement<Row>(this.options.dataSource, selectAny);
    if (row) this.unwrap(row);
  }

  private inMemory(tx: Transaction, subjects: readonly string[]): Map<string, Buffer | null> {
    const own = this.uncommitted.get(tx);
    return new Map(
      subjects.flatMap((subject) => {
        const key = own?.get(subject) ?? this.cache.get(subject);
        return key ? [[subject, key]] : [];
      }),
    );
  }

  private async create(tx: Transaction, subjects: readonly string[]): Promise<ReadonlyMap<string, Buffer>> {
    if (subjects.length === 0) return new Map();
    const { service: owner, masterKey } = this.options;
    const made = new Map(subjects.map((subject) => [subject, randomBytes(32)]));
    const wrapped = [...made].map(([subject, key]) => masterKey.wrap({ owner, subject }, key));
    const messages = subjects.map((subject, index) =>
      JSON.stringify(this.message(KeyCreated.type, { subject, wrappedKey: wrapped[index] })),
    );
    const rows = await tx.query<{ subject: string }>(create, [owner, subjects, wrapped, messages, keyTopic(owner)]);
    const created = new Map(rows.map(({ subject }) => [subject, made.get(subject) as Buffer]));
    this.remember(tx, created);
    return created;
  }

  private async addStored(
    tx: Transaction,
    keys: Map<string, Buffer | null>,
    subjects: readonly string[],
  ): Promise<void> {
    const { service: owner } = this.options;
    const missing = subjects.filter((subject) => !keys.has(subject)).map((subject) => ({ owner, subject }));
    if (missing.length === 0) return;
    const rows = await tx.query<Row>(select, columnsOf(missing));
    const found = new Map(rows.map((row) => [row.subject, this.unwrap(row)]));
    for (const [subject, key] of found) keys.set(subject, key);
    this.remember(tx, new Map([...found].flatMap(([subject, key]) => (key ? [[subject, key]] : []))));
  }

  private unwrap({ owner, subject, wrappedKey }: Row): Buffer | null {
    return wrappedKey === null ? null : this.options.masterKey.unwrap({ owner, subject }, wrappedKey);
  }

  /** In the cache only once it is committed: data must never be sealed with a key that was rolled back. */
  private remember(tx: Transaction, keys: ReadonlyMap<string, Buffer>): void {
    if (keys.size === 0) return;
    this.uncommitted.set(tx, new Map([...(this.uncommitted.get(tx) ?? []), ...keys]));
    tx.afterCommit(() => keys.forEach((key, subject) => this.cache.set(subject, key)));
  }

  private message(type: string, data: { subject: string; wrappedKey?: string | undefined }): Message {
    return createMessage({ type, version: 1, source: this.options.service, subject: data.subject, data });
  }
}

const columnsOf = (subjects: readonly Subject[]): unknown[][] => [
  subjects.map(({ owner }) => owner),
  subjects.map(({ subject }) => subject),
];
