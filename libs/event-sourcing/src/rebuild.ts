import {
  exclusively,
  holdConsumer,
  inTransaction,
  maintenance,
  takeOverKeys,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import type { DataSource } from 'typeorm';
import { archivedStreams } from './archived-stream.js';
import { MovedStreams, type MovedStream, type NextMoved } from './moved-streams.js';
import type { Projection } from './projection.js';
import { RebuiltRows } from './rebuilt-rows.js';
import { ShadowTables } from './shadow-tables.js';
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
 * The end is one short transaction, in which the projection's consumer (an inline one: whoever appends) waits. It does what has
 * come since the last pass, and so is as short for a long log as for a short one; a consumer that was far behind is taken to
 * where the new tables are, stream by stream.
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

const record = `
  INSERT INTO projection_rebuild (projection, events, started_at) VALUES ($1, $2, $3)
  ON CONFLICT (projection) DO UPDATE SET events = $2, started_at = $3, finished_at = clock_timestamp()`;

/** So many actors are loaded at once where it is their states that are written. */
const actorsAtOnce = 100;

/** So few streams that have moved, or in which the consumer is elsewhere, are left to the switch. */
const fewStreams = 500;
const mostRounds = 20;
const mostSwitches = 20;

class Rebuild {
  private readonly startedAt = new Date();
  private readonly pageSize: number;
  private readonly moved = new MovedStreams();
  private readonly rows: RebuiltRows;
  private total = 0;

  constructor(
    private readonly options: RebuildOptions,
    private readonly shadow: ShadowTables,
  ) {
    const { dataSource, projection, pageSize = 5_000, onProgress } = options;
    this.pageSize = pageSize;
    this.rows = new RebuiltRows(projection, dataSource, shadow, this.moved, (events) =>
      onProgress?.({ events, total: Math.max(this.total, events) }),
    );
  }

  async run(): Promise<number> {
    await this.inShadow((tx) => this.moved.begin(tx));
    const count = `SELECT count(*)::int AS total FROM event`;
    const [{ total }] = await this.transaction((tx) => tx.manager.query<[{ total: number }]>(count));
    this.total = total;
    await this.copyLog();
    for (const table of this.options.projection.tables) {
      await this.transaction((tx) => tx.manager.query(`ANALYZE ${this.shadow.schema}."${table}"`));
    }
    for (let round = 1; (await this.catchUp()) > fewStreams && round < mostRounds; round += 1);
    await this.switchOver();
    return this.rows.events;
  }

  /** Every stream that is in the log now. What is appended behind its back is caught up later. */
  private copyLog(): Promise<void> {
    let last = '';
    const next: NextMoved = async (tx, limit) => {
      const streams = await tx.query<MovedStream>(selectStreams, [last, limit]);
      last = streams.at(-1)?.stream ?? last;
      return streams;
    };
    return this.copy(next, (work) => this.inShadow(work));
  }

  /**
   * A pass beside whoever appends.
   * @returns how many streams had moved, or are those in which the consumer is elsewhere
   */
  private async catchUp(): Promise<number> {
    const { consumer } = this.options;
    const list = await this.inShadow((tx) => this.moved.list(tx));
    await this.copy(this.moved.streamsOf(list), (work) => this.inShadow(work));
    if (consumer === undefined) return list.streams;
    const elsewhere = await this.inShadow((tx) => this.moved.compare(tx, consumer));
    return Math.max(list.streams, elsewhere.streams);
  }

  /** The next page is read while one is written. */
  private copy(streams: NextMoved, run: Run): Promise<void> {
    if (this.options.projection.states) {
      const read = (tx: Transaction) => streams(tx, actorsAtOnce);
      return pageByPage(run, read, (tx, page) => this.rows.ofStates(tx, page));
    }
    const window = new StreamWindow(streams, this.pageSize);
    const read = (tx: Transaction) => window.next(tx);
    return pageByPage(run, read, (tx, page) => this.rows.ofEvents(tx, page));
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
      const eventsBefore = this.rows.events;
      try {
        return await this.transaction((tx) => this.switchIn(tx));
      } catch (error) {
        this.rows.events = eventsBefore;
        // Somebody reads for long. Everybody else would have to wait behind us: make way, and come again.
        if (!lockErrors.has((error as { code?: string }).code ?? '')) throw error;
        if (attempt === mostSwitches) throw new Error(busy(this.options.projection), { cause: error });
      }
      await this.catchUp();
    }
  }

  /** Nothing here may read what grows with the log: whoever appends, or the consumer, waits for it. */
  private async switchIn(tx: Transaction): Promise<void> {
    const { projection, consumer, lockTimeoutMs = 3_000 } = this.options;
    await tx.manager.query(`SET LOCAL lock_timeout TO ${lockTimeoutMs}`);
    if (consumer === undefined) await tx.manager.query('LOCK TABLE event IN SHARE ROW EXCLUSIVE MODE');
    else await tx.query(holdConsumer, [consumer]);
    await this.shadow.shadow(tx.manager);
    const inside: Run = (work) => work(tx);
    await this.copy(this.moved.streamsOf(await this.moved.list(tx)), inside);
    if (consumer !== undefined) {
      const next = this.moved.streamsOf(await this.moved.compare(tx, consumer));
      await pageByPage(
        inside,
        () => next(tx, this.pageSize),
        (_, page) => takeOverKeys(tx, consumer, page.map(inNewTables)),
      );
    }
    await this.shadow.takeOver(tx.manager);
    await tx.manager.query(record, [projection.name, this.rows.events, this.startedAt]);
  }
}

/** In a transaction of its own, or in one that goes on. */
type Run = <T>(work: (tx: Transaction) => Promise<T>) => Promise<T>;

async function pageByPage<Row>(
  run: Run,
  read: (tx: Transaction) => Promise<readonly Row[]>,
  write: (tx: Transaction, page: readonly Row[]) => Promise<void>,
): Promise<void> {
  let page = await run(read);
  while (page.length > 0) {
    const rows = page;
    [page] = await Promise.all([run(read), run((tx) => write(tx, rows))]);
  }
}

/** What a comparison lists. */
const inNewTables = ({ stream, head }: MovedStream) => ({ key: stream, handled: head });

/** Lock timeout, deadlock. */
const lockErrors = new Set(['55P03', '40P01']);

const busy = ({ name, tables }: Projection): string =>
  `projection ${name} was rebuilt, but ${tables.join(', ')} could not be replaced: somebody reads there all the time; end long queries and rebuild again`;
