import { setTimeout as sleep } from 'node:timers/promises';
import type { Admin } from 'kafkajs';
import { TerminalError, TransientError } from '../errors.js';
import { errorText, type Logger } from '../logger.js';
import { createClient, type KafkaClient, type KafkaConnection } from './kafka-client.js';

/** How long an administrative request is tried, in milliseconds. */
const patienceMs = 15_000;

interface AdminClient extends KafkaClient {
  readonly admin: Admin;
  readonly connected: Promise<void>;
}

/** The one administrative connection of a transport: made when it is first needed, replaced when a request fails. */
export class SharedAdmin {
  private client: AdminClient | undefined;
  private closed = false;

  constructor(
    private readonly connection: KafkaConnection,
    private readonly logger: Logger,
  ) {}

  /**
   * Tries `work` until it succeeds.
   * @throws TerminalError of `work`, at once; TransientError when nothing helped for 15 s
   */
  async use<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    const deadline = performance.now() + patienceMs;
    for (;;) {
      if (this.closed) throw new TransientError('the transport is closed: use it before close(), or use another');
      const client = (this.client ??= this.connect());
      // Cut off is the only end that kafkajs has for a request that hangs.
      const expiry = setTimeout(() => this.discard(client), deadline - performance.now());
      try {
        await client.connected;
        return await work(client.admin);
      } catch (error) {
        if (error instanceof TerminalError) throw error;
        this.discard(client);
        if (performance.now() + 500 > deadline) throw this.unanswered(error);
        this.logger.debug('an administrative request failed, trying again', { error: reasonOf(error) });
        await sleep(300);
      } finally {
        clearTimeout(expiry);
      }
    }
  }

  /** The next request gets a new connection, which knows nothing of before. */
  reset(): void {
    if (this.client) this.discard(this.client);
  }

  close(): void {
    this.closed = true;
    this.reset();
  }

  private connect(): AdminClient {
    const client = createClient(this.connection, this.logger);
    const admin = client.kafka.admin();
    const connected = admin.connect();
    connected.catch(() => undefined);
    return { ...client, admin, connected };
  }

  private discard(client: AdminClient): void {
    client.gate.cut();
    if (this.client === client) this.client = undefined;
  }

  private unanswered(error: unknown): TransientError {
    return new TransientError(
      `Kafka at ${this.connection.brokers.join(', ')} did not do it within ${patienceMs} ms ` +
        `(${reasonOf(error)}): check that it runs and that this client may administer topics`,
      { cause: error },
    );
  }
}

/** createTopics fails with one error per topic. */
function reasonOf(error: unknown): string {
  const { errors = [] } = error as { readonly errors?: readonly Error[] };
  return [error, ...errors].map(errorText).join('; ');
}
