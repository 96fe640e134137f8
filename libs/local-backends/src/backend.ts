export interface BackendOptions {
  /** Absolute folder that keeps the data over restarts; default: a new temporary folder, removed by `stop`. */
  readonly dataDir?: string;
  /** Fixed port on the loopback; default: a free one. */
  readonly port?: number;
  /** Clients come over TLS: RabbitMQ and Kafka ask for their certificate, PostgreSQL takes it. Default: without. */
  readonly tls?: TlsFiles;
}

/** Paths of files in PEM. */
export interface TlsFiles {
  /** Who has signed the certificates of clients. */
  readonly ca: string;
  /** The server's own, for 127.0.0.1, and its key. */
  readonly cert: string;
  readonly key: string;
}

/** A real server of ours, on the loopback, with its own data folder. */
export interface Backend {
  /** `amqp://…`, `127.0.0.1:PORT` (Kafka) or `postgresql://…`. */
  readonly url: string;
  /** Kills the process (SIGKILL) as a crash would; the data stays. */
  kill(): Promise<void>;
  /** Starts it again on the same port and data after `kill`; resolves when it answers. */
  start(): Promise<void>;
  /**
   * Runs the program that its vendor ships to control it, RabbitMQ's `rabbitmqctl`; resolves to what it prints.
   * @throws Error when it fails, or when there is none
   */
  control(...args: readonly string[]): Promise<string>;
  /** Ends it and removes a temporary data folder. Idempotent. */
  stop(): Promise<void>;
}

/** Something that has to be installed is not there; the message says what and how. */
export class MissingPrerequisiteError extends Error {
  override readonly name = 'MissingPrerequisiteError';
}
