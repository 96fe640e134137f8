export * from './publish-errors.js';

/** The message does not fit its schema; no retry can mend it. */
export class ValidationError extends Error {
  override readonly name = 'ValidationError';
}

/** May succeed when tried again: a connection that broke, a lock, a busy server. */
export class TransientError extends Error {
  override readonly name = 'TransientError';
}

/** A time limit passed; treated as transient. */
export class TimeoutError extends Error {
  override readonly name = 'TimeoutError';
}

/** Will fail however often it is tried, and not because of its shape: goes to a human at once. */
export class TerminalError extends Error {
  override readonly name = 'TerminalError';
}

/** The data is of a version that this release does not know. */
export class UnknownVersionError extends Error {
  // The error type of its dead letters, beside `UnknownType`.
  override readonly name = 'UnknownVersion';
}

/** The bytes can never become a message, however often they are read; they go to the dead letters as they are. */
export class UndecodableError extends Error {
  override readonly name = 'UndecodableError';
}
