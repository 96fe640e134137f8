import pg, { type ClientConfig, type QueryConfig, type QueryResult, type QueryResultRow } from 'pg';
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { TimeoutError } from '../errors.js';
import { cancelStatement } from './cancel-statement.js';
import { codeOf, DatabaseBusyError, DatabaseUnavailableError, unavailability } from './unavailable.js';

/** All in milliseconds. */
export interface DatabaseLimits {
  /** How long a connection may take to be made, or to become free. Default 10 000. */
  readonly connectMs: number;
  /** No answer for so long, although one is owed, ends the statement and its connection. Default 30 000. */
  readonly statementMs: number;
  /** How long a statement may wait for a lock. Default 10 000. */
  readonly lockMs: number;
  /** How long a transaction may do nothing. Default 30 000. */
  readonly idleInTransactionMs: number;
}

export const defaultLimits: DatabaseLimits = {
  connectMs: 10_000,
  statementMs: 30_000,
  lockMs: 10_000,
  idleInTransactionMs: 30_000,
};

export interface DatabaseClientConfig extends ClientConfig {
  readonly limits?: DatabaseLimits;
  /** False where statements cannot keep their names: behind PgBouncer before 1.21. Default true. */
  readonly preparedStatements?: boolean;
  /** The server is silent: others that have not heard of it since then may be lost as well. */
  readonly onSilence?: (since: number) => void;
}

type Callback = (error: Error | null, result?: QueryResult) => void;

/** What `pg` has and its types do not tell. */
interface Internals {
  readonly connection: EventEmitter & { readonly stream: Socket };
  readonly _ending: boolean;
  readonly processID: number | null;
  readonly secretKey: number | null;
}

/**
 * A connection that tells its own failures from those of the statements, and that does not wait for ever for a server that is
 * silent: the network may have lost it without telling anybody.
 */
export class DatabaseClient extends pg.Client {
  readonly limits: DatabaseLimits;
  /** Its sessions are shared with others, statement by statement, by a pooler; what is set for a session reaches anybody. */
  pooled = false;
  /** Why it cannot be used any more. */
  lost: Error | undefined;
  /** It speaks to a server that is no use any more, as the old primary after a fail-over: the pool makes another one. */
  outdated = false;
  private readonly preparedStatements: boolean;
  private statementMs: number;
  private unanswered = 0;
  private timer: NodeJS.Timeout | undefined;
  private timerMs = 0;
  private onAnswered: (() => void) | undefined;
  private answeredAt = performance.now();
  private readonly onSilence: (since: number) => void;

  constructor(config: DatabaseClientConfig = {}) {
    super(config);
    this.limits = config.limits ?? defaultLimits;
    this.statementMs = this.limits.statementMs;
    this.preparedStatements = config.preparedStatements ?? true;
    this.onSilence = config.onSilence ?? (() => undefined);
    // Also while it changes hands and nobody listens: it ends this connection, not the process.
    this.on('error', (error) => (this.lost ??= error));
    this.internals.connection.once('end', () => {
      this.lost ??= this.meaningOfLoss(new Error('the connection was closed'));
      clearTimeout(this.timer);
    });
  }

  /** For as long as one transaction, or migration, has it; `undefined` for the default, 0 for no limit. */
  limitStatements(statementMs = this.limits.statementMs): void {
    this.statementMs = statementMs;
  }

  /**
   * Sets the limits of the session; behind a pooler they are set by each transaction ({@link begin}). A pooler does not tell
   * that it is one, but the connection to the server is not ours then, and has another number.
   */
  async openSession(): Promise<void> {
    const { processID } = this.internals;
    const settings = sessionSettings(this.limits);
    this.limitStatements(this.limits.connectMs);
    const { rowCount } = await this.send(
      `SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS setting (name, value)
        WHERE pg_backend_pid() = $3`,
      [Object.keys(settings), Object.values(settings), processID],
    );
    this.limitStatements();
    this.pooled = rowCount === 0;
  }

  /** What begins a transaction. */
  get begin(): string {
    if (!this.pooled) return 'BEGIN';
    const { lockMs, idleInTransactionMs } = this.limits;
    return `BEGIN; SET LOCAL lock_timeout TO ${lockMs}; SET LOCAL idle_in_transaction_session_timeout TO ${idleInTransactionMs}`;
  }

  // The types of `pg` have one overload for each way to call it.
  override query(...[config, values, callback]: readonly unknown[]): never {
    if (isSubmittable(config)) return super.query(config as never);
    const done = [values, callback].find((argument) => typeof argument === 'function') as Callback | undefined;
    const answer = this.send(config as string | QueryConfig, Array.isArray(values) ? values : undefined);
    if (!done) return answer as never;
    answer.then((result) => done(null, result), done);
    return undefined as never;
  }

  /** Whoever has it hears what the loss of it means. */
  override emit(event: string | symbol, ...values: unknown[]): boolean {
    return super.emit(event, ...(event === 'error' ? values.map((error) => this.meaningOfLoss(error)) : values));
  }

  /** Ends the statement that it is at, and the connection with it: what that has locked is free then. */
  async abort(reason: Error, onSilence: () => void = () => undefined): Promise<void> {
    const { host, port } = this;
    const { processID, secretKey } = this.internals;
    if (!this.lost && this.unanswered > 0) {
      const answered = new Promise<void>((resolve) => (this.onAnswered = resolve));
      const noticed = await cancelStatement({ host, port, processID, secretKey });
      // The answer says that the statement was cancelled; without one it is the connection that is lost.
      if (noticed) await Promise.race([answered, sleep(answerMs, undefined, { ref: false })]);
      this.lost ??= new DatabaseUnavailableError(reason);
    }
    if (this.unanswered > 0) onSilence();
    this.internals.connection.stream.destroy();
  }

  private get internals(): Internals {
    return this as unknown as Internals;
  }

  /** Sent before this returns. */
  private async send(config: string | QueryConfig, values: unknown[] | undefined): Promise<QueryResult> {
    const statement = this.preparedStatements || typeof config === 'string' ? config : { ...config, name: undefined };
    this.unanswered += 1;
    if (this.unanswered === 1) this.expectAnswer();
    try {
      return await super.query<QueryResultRow>(statement as QueryConfig, values);
    } catch (error) {
      throw this.failure(error);
    } finally {
      this.unanswered -= 1;
      this.answeredAt = performance.now();
      if (this.unanswered > 0) this.expectAnswer();
      else this.onAnswered?.();
    }
  }

  private expectAnswer(): void {
    if (this.statementMs === 0) return clearTimeout(this.timer);
    if (this.timer && this.timerMs === this.statementMs) return void this.timer.refresh();
    clearTimeout(this.timer);
    this.timerMs = this.statementMs;
    this.timer = setTimeout(() => this.overdue(), this.timerMs).unref();
  }

  private overdue(): void {
    if (this.unanswered === 0 || this.statementMs === 0) return;
    const since = this.answeredAt;
    void this.abort(new Error(`no answer within ${this.statementMs} ms`), () => this.onSilence(since));
  }

  /** Ends it when nothing is under way on it and it has heard nothing since then, instead of letting its next user find out. */
  distrust(since: number): void {
    if (this.unanswered > 0 || this.answeredAt > since) return;
    this.internals.connection.stream.destroy(new Error('the server is silent on other connections'));
  }

  /** What a failed statement means, by the place that it comes from: the server's answer, the connection, or our own code. */
  private failure(error: unknown): unknown {
    if (error instanceof pg.DatabaseError) {
      const outage = unavailability(error);
      if (outage && !(outage instanceof DatabaseBusyError)) this.outdated = true;
      return outage ?? error;
    }
    return this.lost ?? (this.internals._ending ? new DatabaseUnavailableError(error) : error);
  }

  private meaningOfLoss(error: unknown): Error {
    if (error instanceof DatabaseUnavailableError) return error;
    if (codeOf(error) !== idleInTransaction) return new DatabaseUnavailableError(error);
    const what = `the transaction did nothing for ${this.limits.idleInTransactionMs} ms`;
    return new TimeoutError(`${what}, and the server ended it: wait for other things outside`, { cause: error });
  }
}

/** How long the answer of a server that has taken notice may take, in milliseconds. */
const answerMs = 1_000;

/** Whoever lets a transaction rest is to blame, not the database. */
const idleInTransaction = '25P03';

/** A host that has vanished holds its locks until the server knows; a client that is gone needs no answer any more. */
const sessionSettings = ({ lockMs, idleInTransactionMs }: DatabaseLimits): Record<string, string> => ({
  lock_timeout: `${lockMs}`,
  idle_in_transaction_session_timeout: `${idleInTransactionMs}`,
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '3',
  tcp_user_timeout: '20000',
  client_connection_check_interval: '5000',
});

const isSubmittable = (config: unknown): boolean =>
  typeof config === 'object' && config !== null && 'submit' in config && typeof config.submit === 'function';
