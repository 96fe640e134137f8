import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientBase, QueryConfig, QueryResult } from 'pg';
import { DatabaseClient } from './database-client.js';
import { codeOf, DatabaseUnavailableError, outageOf } from './unavailable.js';

/** How long a roll-back may wait behind statements that were sent before, in milliseconds. */
const rollBackMs = 1_000;

/** What would end the transaction, or begin another, behind our back; going back to a savepoint is fine. */
const control =
  /^\s*(begin|start\s+transaction|commit|end|abort|prepare\s+transaction|rollback(?!\s+(work\s+|transaction\s+)?to\b))\b/i;

/** The server takes nothing any more, because a statement before has failed. */
const transactionFailed = '25P02';

/**
 * The connection as one transaction has it. Every way to it leads through {@link query}: plain SQL, TypeORM's manager, the
 * repositories and builders made from it, streams. Once COMMIT was sent, or the transaction was given up, nothing is sent any
 * more, whoever is late: behind a ROLLBACK it would be a transaction of its own.
 */
export class TransactionConnection {
  /** For TypeORM, in place of the client. */
  readonly facade: ClientBase;
  private over: string | undefined;
  private unanswered = 0;
  private outage: DatabaseUnavailableError | undefined;

  constructor(private readonly client: ClientBase) {
    this.facade = new Proxy(client, {
      get: (target, key) => {
        if (key === 'query') return this.queryText;
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  }

  begin(): Promise<unknown> {
    return this.send(this.client instanceof DatabaseClient ? this.client.begin : 'BEGIN');
  }

  /** @throws Error when it is over, at once: nothing is sent then */
  query(statement: QueryConfig): Promise<QueryResult> {
    this.refuseWhenOver(statement.name ?? statement.text);
    return this.send(statement);
  }

  /** Nothing may be sent behind it. */
  commit(): Promise<QueryResult> {
    this.close('was committed');
    return this.send('COMMIT');
  }

  /** From now on it takes no more statements. */
  close(why: string): void {
    this.over ??= why;
  }

  /**
   * Undoes everything, and waits until the server has: the next attempt may want the same locks. Statements that are still
   * under way are ended with their connection, `atOnce` or after a moment.
   * @returns false when the connection is lost
   */
  async rollBack(atOnce: boolean): Promise<boolean> {
    this.close('was given up');
    if (this.lost) return false;
    if (!(atOnce && this.unanswered > 0)) {
      const ended = new AbortController();
      const rolledBack = this.send('ROLLBACK').then(
        () => true,
        () => false,
      );
      const late = sleep(rollBackMs, undefined, { ref: false, signal: ended.signal }).catch(() => undefined);
      const outcome = await Promise.race([rolledBack, late]);
      ended.abort();
      if (outcome !== undefined) return outcome;
    }
    if (this.client instanceof DatabaseClient) {
      await this.client.abort(new Error('the transaction was given up while a statement was under way'));
    }
    return false;
  }

  /** What an error means that has ended the transaction, by where it comes from. */
  meaningOf(error: unknown): unknown {
    // What work has wrapped itself says more than ours; whoever asks finds the outage in it.
    const { driverError = error } = (error ?? {}) as { driverError?: unknown };
    if (driverError instanceof DatabaseUnavailableError) return driverError;
    // Without the connection nothing could have come of it, whatever its work makes of that.
    if (this.lost) return this.lost;
    return codeOf(error) === transactionFailed ? (this.outage ?? error) : error;
  }

  /** Of a statement whose failure nobody has passed on. */
  get hiddenOutage(): DatabaseUnavailableError | undefined {
    return this.outage;
  }

  private get lost(): Error | undefined {
    return this.client instanceof DatabaseClient ? this.client.lost : undefined;
  }

  private readonly queryText = (...request: readonly unknown[]): unknown => {
    const [text] = request;
    this.refuseWhenOver(typeof text === 'string' ? text.slice(0, 60) : 'it');
    if (typeof text === 'string' && control.test(text)) {
      throw new Error(
        `${text.slice(0, 60)}: inTransaction begins and ends the transaction; return to commit, throw to undo`,
      );
    }
    return this.send(...request);
  };

  private refuseWhenOver(what: string): void {
    if (this.over) throw new Error(`the transaction ${this.over}; wait for ${what} before it ends`);
  }

  private send(...request: readonly unknown[]): Promise<QueryResult> {
    const answer: unknown = Reflect.apply(
      this.client.query as (...request: readonly unknown[]) => unknown,
      this.client,
      request,
    );
    if (!(answer instanceof Promise)) return answer as Promise<QueryResult>;
    this.unanswered += 1;
    answer.then(
      () => (this.unanswered -= 1),
      (error: unknown) => {
        this.unanswered -= 1;
        this.outage ??= outageOf(error);
      },
    );
    return answer as Promise<QueryResult>;
  }
}
