import {
  errorText,
  runStatement,
  settleInHalves,
  type BatchCall,
  type Logger,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import type { DataSource } from 'typeorm';
import { z } from 'zod';
import type { Actor } from './actor.js';
import type { Loaded } from './actor-cache.js';

// The log decides: a snapshot counts only if the event that it says it ends with is stored. So one that is ahead of the log
// (a database that was restored from a backup) or of another history is as good as none. A subquery, because a join that was
// planned while the log was empty reads all of it.
const select: Statement = {
  name: 'snapshot-load',
  text: `SELECT snapshot.stream_id AS stream, snapshot.sequence::int AS sequence, snapshot.event_id AS "eventId", snapshot.state
           FROM unnest($1::text[], $2::int[]) AS wanted (stream_id, version)
           JOIN snapshot USING (stream_id, version)
          WHERE event_id = (SELECT id FROM event WHERE stream_id = snapshot.stream_id AND sequence = snapshot.sequence)`,
};
const upsert: Statement = {
  name: 'snapshot-save',
  text: `INSERT INTO snapshot (stream_id, version, sequence, event_id, state)
         SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::uuid[], $5::json[]) ORDER BY 1
         ON CONFLICT (stream_id) DO UPDATE
            SET version = excluded.version, sequence = excluded.sequence, event_id = excluded.event_id,
                state = excluded.state, taken_at = now()`,
};

interface Due {
  readonly actor: Actor<unknown>;
  readonly loaded: Loaded<unknown>;
}

/** Most snapshots that wait to be written; more are not taken, for they are only a help. */
const mostDue = 1_000;
/** Of the states in one statement, but for one that is larger alone. */
const mostCharacters = 1_000_000;

/** Keeps the states of actors with a long past, beside the log and never instead of it. Writing them holds up no command. */
export class Snapshots {
  private readonly due = new Map<string, Due>();
  private writing: Promise<void> | undefined;
  /** Written since the start. */
  taken = 0;

  constructor(
    private readonly dataSource: DataSource,
    private readonly logger: Logger,
  ) {}

  /** The newest usable snapshots of these actors, by stream. */
  async load(tx: Transaction, actors: ReadonlyMap<string, Actor<unknown>>): Promise<Map<string, Loaded<unknown>>> {
    const policies = new Map([...actors].flatMap(([stream, { snapshot }]) => (snapshot ? [[stream, snapshot]] : [])));
    if (policies.size === 0) return new Map();
    const versions = [...policies.values()].map(({ version }) => version);
    const rows = await tx.query<{ stream: string; sequence: number; eventId: string; state: unknown }>(select, [
      [...policies.keys()],
      versions,
    ]);
    return new Map(
      rows.flatMap(({ stream, sequence, eventId, state }) => {
        const decoded = policies.get(stream)?.schema.safeDecode(state);
        if (decoded?.success) return [[stream, { state: decoded.data, sequence, eventId, snapshotAt: sequence }]];
        this.logger.warn('a snapshot does not fit its schema and is not used; raise `version` when the state changes', {
          stream,
          sequence,
        });
        return [];
      }),
    );
  }

  /**
   * Takes a snapshot when the actor's policy says so; true then. One with a long past that is over leaves a last one to whoever
   * reads it. Call it only with a state that is committed.
   */
  offer(actor: Actor<unknown>, stream: string, loaded: Loaded<unknown>): boolean {
    if (!actor.snapshot || !loaded.eventId) return false;
    const { every = 100, growth = 0, loadSlowerThanMs = 50 } = actor.snapshot;
    const { sequence, snapshotAt = 0, loadMs = 0 } = loaded;
    const since = sequence - snapshotAt;
    const isLast = sequence >= every && (actor.isOver?.(loaded.state) ?? false);
    const due = since >= Math.max(every, growth * snapshotAt) || (since > 0 && (isLast || loadMs > loadSlowerThanMs));
    if (!due || (this.due.size >= mostDue && !this.due.has(stream))) return false;
    this.due.set(stream, { actor, loaded });
    this.writing ??= this.writeAll().finally(() => (this.writing = undefined));
    return true;
  }

  /** Resolves when nothing is being written. */
  async settled(): Promise<void> {
    while (this.writing) await this.writing;
  }

  private async writeAll(): Promise<void> {
    while (this.due.size > 0) {
      await settleInHalves(this.nextCalls(), async (rows) => {
        if (rows.length > 0) await runStatement(this.dataSource, upsert, transpose(rows));
        return [];
      });
    }
  }

  private tell(stream: string, error: unknown): void {
    const details = { stream, error: errorText(error) };
    this.logger.warn('a snapshot could not be written; the actor loads from the log', details);
  }

  private tryEncode(stream: string, due: Due): unknown[][] {
    try {
      return this.encode(stream, due);
    } catch (error) {
      this.tell(stream, error);
      return [];
    }
  }

  /** So many of those that are due as are not too large for a statement together. */
  private nextCalls(): BatchCall<unknown[], undefined>[] {
    const calls: BatchCall<unknown[], undefined>[] = [];
    let characters = 0;
    for (const [stream, due] of this.due) {
      this.due.delete(stream);
      for (const item of this.tryEncode(stream, due)) {
        calls.push({ item, resolve: () => (this.taken += 1), reject: (error) => this.tell(stream, error) });
        characters += (item.at(-1) as string).length;
      }
      if (characters >= mostCharacters) break;
    }
    return calls;
  }

  private encode(stream: string, { actor, loaded }: Due): unknown[][] {
    const encoded = actor.snapshot?.schema.safeEncode(loaded.state);
    if (encoded?.success) {
      return [[stream, actor.snapshot?.version, loaded.sequence, loaded.eventId, JSON.stringify(encoded.data)]];
    }
    const problem = encoded?.error ? z.prettifyError(encoded.error) : '';
    this.logger.error(
      `the state of actor ${actor.name} does not fit the schema of its snapshots; correct one of them`,
      {
        stream,
        problem,
      },
    );
    return [];
  }
}

const transpose = (rows: readonly (readonly unknown[])[]): unknown[][] =>
  (rows[0] ?? []).map((_, column) => rows.map((row) => row[column]));
