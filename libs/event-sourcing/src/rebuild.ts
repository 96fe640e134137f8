import {
  exclusively,
  groupBy,
  holdConsumer,
  inTransaction,
  maintenance,
  silentLogger,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import type { DataSource } from 'typeorm';
import type { RecordedEvent } from './actor.js';
import { archivedStreams } from './archived-stream.js';
import type { StoredEvent, StreamPosition } from './event-store.js';
import { decodeStored, loadActors } from './load-actors.js';
import { mustNotRefuse, projectAll, type Projection, type StateChange } from './projection.js';
import { ShadowTables } from './shadow-tables.js';
import { Snapshots } from './snapshots.js';
import { StreamWindow } from './stream-window.js';

export interface RebuildProgress {
  /** Events that are in the new tables. */
  readonly events: number;
  /** Events that were in the log when it began; more may have come since. */
  readonly total: number;
}

export interface RebuildOptions {
  readonly dataSource: DataSource;
  readonly projection: Projection;
  /** The name under which it follows its topic (`consumerOf`); none when it is inline. */
  readonly consumer?: string;
  readonly onProgress?: (progress: RebuildProgress) => void;
  /** Most events in memory and in a transaction; the next page is read meanwhile. Default 5 000. */
  readonly pageSize?: number;
  /** How long readers of the live tables may be in the way of the switch before it steps back; it is tried 20 times. Default 3 000 ms. */
  readonly lockTimeoutMs?: number;
}

/**
 * Writes the tables of a projection anew from the log, beside the live ones, and puts them in their places. Meanwhile the live
 * ones are read and written as ever. Only the projection's handlers run: nothing is published and no command is sent. When it
 * fails or is killed, everything is as before; the next one begins anew and removes what is left.
 *
 * The end is one short transaction, in which the projection's consumer (an inline one: whoever appends) waits.
 * @returns how many events the new tables were made of
 * @throws Error when another rebuild of it is under way, when its tables cannot be replaced, when it does not know a type, when
 * events were archived
 * @throws CorruptStreamError
 */
export async function rebuildProjection(options: RebuildOptions): Promise<number> {
  const { dataSource, projection } = options;
  const { name, tables } = projection;
  if (tables.length === 0) throw new Error(`projection ${name} cannot be rebuilt: it declares no tables of its own`);
  const refusal = `projection ${name} is being rebuilt already; wait for that to end, or end it`;
  await refuseArchivedLog(options);
  return exclusively(dataSource, { task: `rebuild ${name}`, refusal }, async () => {
    const shadow = await ShadowTables.create(dataSource, name, tables);
    try {
      const rebuild = new Rebuild(options, shadow);
      return await rebuild.run();
    } finally {
      await shadow.drop(dataSource);
    }
  });
}

async function refuseArchivedLog({ dataSource, projection }: RebuildOptions): Promise<void> {
  const streams = await inTransaction(dataSource, archivedStreams);
  if (streams === 0) return;
  const what = `projection ${projection.name} cannot be rebuilt: events of ${streams} streams were archived`;
  throw new Error(`${what}, and their rows would be lost; restore them first (SELECT file FROM archived_stream)`);
}

const selectStreams: Statement = {
  name: 'rebuild-streams',
  text: `SELECT stream_id AS stream, 0 AS sequence, max(sequence)::int AS head
           FROM event WHERE stream_id > $1 GROUP BY 1 ORDER BY 1 LIMIT $2`,
};

const advance: Statement = {
  name: 'rebuild-advance',
  text: `INSERT INTO rebuild_checkpoint (stream_id, sequence) SELECT * FROM unnest($1::text[], $2::bigint[])
         ON CONFLICT (stream_id) DO UPDATE SET sequence = excluded.sequence`,
};

// A pass over the primary key's index. The log has no order over streams that would tell what is new: numbers are given before
// the commit, and what commits late would be missed.
const selectMoved: Statement = {
  name: 'rebuild-moved',
  text: `SELECT stream_id AS stream, coalesce(done.sequence, 0)::int AS sequence, head::int
           FROM (SELECT stream_id, max(sequence) AS head FROM event GROUP BY stream_id) log
           LEFT JOIN rebuild_checkpoint done USING (stream_id)
          WHERE head > coalesce(done.sequence, 0) LIMIT $1`,
};

const takeOverSequences = `
  INSERT INTO inbox_sequence AS seen (consumer, key, sequence)
  SELECT $1, stream_id, done.sequence
    FROM rebuild_checkpoint done LEFT JOIN inbox_sequence live ON live.consumer = $1 AND live.key = stream_id
   WHERE live.sequence IS DISTINCT FROM done.sequence
  ON CONFLICT (consumer, key) DO UPDATE SET sequence = excluded.sequence`;
const unpark = `
  DELETE FROM inbox_parked parked USING rebuild_checkpoint done
   WHERE parked.consumer = $1 AND parked.key = done.stream_id AND parked.sequence <= done.sequence`;
const record = `
  INSERT INTO projection_rebuild (projection, events, started_at) VALUES ($1, $2, $3)
  ON CONFLICT (projection) DO UPDATE SET events = $2, started_at = $3, finished_at = clock_timestamp()`;

interface StreamRow extends StreamPosition, Record<string, unknown> {
  /** The last that is in the log. */
  readonly head: number;
}

/** So many actors are loaded at once where it is their states that are written. */
const actorsAtOnce = 100;

/** So few streams that have moved are caught up while the consumer waits. */
const fewStreams = 500;
const mostRounds = 20;
const mostSwitches = 20;

class Rebuild {
  private readonly startedAt = new Date();
  private readonly pageSize: number;
  private events = 0;
  private total = 0;

  constructor(
    private readonly options: RebuildOptions,
    private readonly shadow: ShadowTables,
  ) {
    this.pageSize = options.pageSize ?? 5_000;
  }

  async run(): Promise<number> {
    const { dataSource } = this.options;
    const { schema } = this.shadow;
    await dataSource.query(
      `CREATE TABLE ${schema}.rebuild_checkpoint (stream_id text PRIMARY KEY, sequence bigint NOT NULL)`,
    );
    const count = `SELECT count(*)::int AS total FROM event`;
    const [{ total }] = await this.transaction((tx) => tx.manager.query<[{ total: number }]>(count));
    this.total = total;
    await this.copyLog();
    for (let round = 1; (await this.inShadow((tx) => this.catchUp(tx))) > fewStreams && round < mostRounds; round += 1);
    for (const table of this.options.projection.tables) {
      await this.transaction((tx) => tx.manager.query(`ANALYZE ${schema}."${table}"`));
    }
    await this.switchOver();
    return this.events;
  }

  /** Every stream that is in the log now. What is appended behind its back is caught up later. */
  private async copyLog(): Promise<void> {
    let last = '';
    if (this.options.projection.states) {
      const next = (tx: Transaction) => tx.query<StreamRow>(selectStreams, [last, actorsAtOnce]);
      for (;;) {
        const streams = await this.transaction(next);
        if (streams.length === 0) return;
        last = streams.at(-1)?.stream ?? last;
        await this.inShadow((tx) => this.applyStates(tx, streams));
      }
    }
    const window = new StreamWindow(async (tx, limit) => {
      const streams = await tx.query<StreamRow>(selectStreams, [last, limit]);
      last = streams.at(-1)?.stream ?? last;
      return streams;
    }, this.pageSize);
    const read = () => this.transaction((tx) => window.next(tx));
    let page = await read();
    while (page.length > 0) {
      const events = page;
      [page] = await Promise.all([read(), this.inShadow((tx) => this.apply(tx, events))]);
    }
  }

  /** @returns how many streams had moved */
  private async catchUp(tx: Transaction): Promise<number> {
    let streams = 0;
    for (;;) {
      const moved = await tx.query<StreamRow>(selectMoved, [this.pageSize]);
      streams += moved.length;
      if (this.options.projection.states) {
        for (let from = 0; from < moved.length; from += actorsAtOnce) {
          await this.applyStates(tx, moved.slice(from, from + actorsAtOnce));
        }
        if (moved.length < this.pageSize) return streams;
        continue;
      }
      const left = [...moved];
      const window = new StreamWindow((_, limit) => Promise.resolve(left.splice(0, limit)), this.pageSize);
      for (let page = await window.next(tx); page.length > 0; page = await window.next(tx)) await this.apply(tx, page);
      if (moved.length < this.pageSize) return streams;
    }
  }

  private async apply(tx: Transaction, page: readonly StoredEvent[]): Promise<void> {
    const { projection } = this.options;
    const streams = groupBy(page, ({ stream }) => stream);
    const histories = [...streams.values()].map((events) => events.flatMap((event) => recorded(projection, event)));
    mustNotRefuse(projection, await projectAll(tx, [projection], histories));
    const heads = [...streams.values()].map((events) => events.at(-1)?.sequence);
    await this.applied(tx, { streams: [...streams.keys()], heads, events: page.length });
  }

  /** What the actors of these streams are now; those of other actors pass. */
  private async applyStates(tx: Transaction, streams: readonly StreamRow[]): Promise<void> {
    const { projection, dataSource } = this.options;
    const states = projection.states;
    if (!states) return;
    const own = streams.filter(({ stream }) => stream.startsWith(`${states.actor.name}-`));
    const actors = new Map(own.map(({ stream }) => [stream, states.actor]));
    const loaded = await loadActors(tx, actors, () => undefined, new Snapshots(dataSource, silentLogger));
    const changes = [...loaded].map(([stream, { state }]) => ({ stream, state }));
    if (changes.length > 0) await states.write(tx, changes as StateChange<never>[]);
    const heads = streams.map(({ stream, head }) => loaded.get(stream)?.sequence ?? head);
    const events = streams.reduce((sum, { sequence }, index) => sum + (heads[index] as number) - sequence, 0);
    await this.applied(tx, { streams: streams.map(({ stream }) => stream), heads, events });
  }

  private async applied(
    tx: Transaction,
    { streams, heads, events }: { streams: readonly string[]; heads: readonly unknown[]; events: number },
  ): Promise<void> {
    await tx.query(advance, [streams, heads]);
    await this.shadow.refuseOtherWrites(tx.manager);
    this.events += events;
    this.options.onProgress?.({ events: this.events, total: Math.max(this.total, this.events) });
  }

  private inShadow<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    return this.transaction(async (tx) => {
      await this.shadow.shadow(tx.manager);
      // Lost with the server, it is made again.
      await tx.manager.query('SET LOCAL synchronous_commit TO off');
      return work(tx);
    });
  }

  private transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    return inTransaction(this.options.dataSource, work, undefined, maintenance);
  }

  private async switchOver(): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      const eventsBefore = this.events;
      try {
        return await this.transaction((tx) => this.switchIn(tx));
      } catch (error) {
        this.events = eventsBefore;
        // Somebody reads for long. Everybody else would have to wait behind us: make way, and come again.
        if (!lockErrors.has((error as { code?: string }).code ?? '')) throw error;
        if (attempt === mostSwitches) throw new Error(busy(this.options.projection), { cause: error });
      }
      await this.inShadow((tx) => this.catchUp(tx));
    }
  }

  private async switchIn(tx: Transaction): Promise<void> {
    const { projection, consumer, lockTimeoutMs = 3_000 } = this.options;
    await tx.manager.query(`SET LOCAL lock_timeout TO ${lockTimeoutMs}`);
    if (consumer === undefined) await tx.manager.query('LOCK TABLE event IN SHARE ROW EXCLUSIVE MODE');
    else await tx.query(holdConsumer, [consumer]);
    await this.shadow.shadow(tx.manager);
    await this.catchUp(tx);
    if (consumer !== undefined) {
      await tx.manager.query(takeOverSequences, [consumer]);
      await tx.manager.query(unpark, [consumer]);
    }
    await this.shadow.takeOver(tx.manager);
    await tx.manager.query(record, [projection.name, this.events, this.startedAt]);
  }
}

/** @throws Error when the projection does not know the type: what it is told too little of would be wrong from there on */
function recorded({ name, handlers }: Projection, event: StoredEvent): RecordedEvent[] {
  const { type, stream, sequence, time } = event;
  const handler = handlers.get(type);
  if (handler?.ignored) return [];
  if (handler) return [{ type, sequence, time, data: decodeStored(handler.definition, event) }];
  const what = `projection ${name} does not say what it does with ${type} (${stream}, sequence ${sequence})`;
  throw new Error(`${what}; add project(…) or ignore(…) for it`);
}

/** Lock timeout, deadlock. */
const lockErrors = new Set(['55P03', '40P01']);

const busy = ({ name, tables }: Projection): string =>
  `projection ${name} was rebuilt, but ${tables.join(', ')} could not be replaced: somebody reads there all the time; end long queries and rebuild again`;
