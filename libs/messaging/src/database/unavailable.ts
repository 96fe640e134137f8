/**
 * The service's own database cannot be used now: no message is to blame, so it costs none an attempt. Only our connections
 * throw it, never what a handler says of something else.
 */
export class DatabaseUnavailableError extends Error {
  override readonly name: string = 'DatabaseUnavailableError';
  /** SQLSTATE, or what the socket says. */
  readonly code: string | undefined;

  constructor(cause: unknown, what = 'the database cannot be used now') {
    super(`${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.code = codeOf(cause);
  }
}

/**
 * The database lives and has not done this statement: a lock was held for too long, somebody cancelled it, there was no memory
 * left. What failed in company is worth trying in smaller parts.
 */
export class DatabaseBusyError extends DatabaseUnavailableError {
  override readonly name = 'DatabaseBusyError';

  constructor(cause: unknown) {
    super(cause, 'the database could not do this now');
  }
}

/**
 * Connections, read-only after a fail-over, disk full, too many connections, shut down or killed, input and output, its
 * configuration; and named statements that the server behind a pooler does not know (docs/postgresql.md).
 */
const away = /^(08...|25006|26000|42P05|53100|53300|57P0.|58...|F0...)$/;
/** Memory and other limits, a lock that was not to be had, cancelled, internal errors. */
const busy = /^(53...|55P03|57014|XX...)$/;

/** What the server's answer to a statement means, unless it is about the statement itself. */
export function unavailability(answer: unknown): DatabaseUnavailableError | undefined {
  const code = codeOf(answer) ?? '';
  if (away.test(code)) return new DatabaseUnavailableError(answer);
  return busy.test(code) ? new DatabaseBusyError(answer) : undefined;
}

/** That which our connection has thrown, in whatever it was wrapped since: TypeORM, `cause`, an AggregateError. */
export function outageOf(error: unknown, seen = new Set<unknown>()): DatabaseUnavailableError | undefined {
  if (error instanceof DatabaseUnavailableError) return error;
  if (typeof error !== 'object' || error === null || seen.has(error)) return undefined;
  seen.add(error);
  const { cause, driverError, errors } = error as { cause?: unknown; driverError?: unknown; errors?: unknown };
  for (const inner of [driverError, cause, ...(Array.isArray(errors) ? (errors as unknown[]) : [])]) {
    const outage = outageOf(inner, seen);
    if (outage) return outage;
  }
  return undefined;
}

export function codeOf(error: unknown): string | undefined {
  const code = typeof error === 'object' && error !== null ? (error as { code?: unknown }).code : undefined;
  return typeof code === 'string' ? code : undefined;
}
