import type { ClientBase, Pool } from 'pg';
import type { DataSource } from 'typeorm';
import { DatabaseClient } from '../database/database-client.js';
import { runStatement, type Statement } from '../database/transaction.js';
import { errorText, type Logger } from '../logger.js';

const channel = 'outbox';

const rest: Statement = {
  name: 'outbox-rest',
  text: `UPDATE outbox_relay SET resting = true WHERE holder = $1`,
};

// NOTIFY takes a lock of the whole server at commit: only the first of those who write to an empty outbox pays for it.
const ring: Statement = {
  name: 'outbox-ring',
  text: `WITH woken AS (UPDATE outbox_relay SET resting = false WHERE resting AND holder <> $1 RETURNING 1)
         SELECT pg_notify('${channel}', '') FROM (SELECT FROM woken LIMIT 1) AS one`,
};

/**
 * Wakes the relays of other processes when the outbox is no longer empty. It only spares them the wait for their next poll:
 * behind a proxy that pools transactions no bell is ever heard, and nothing is lost. A connection of its own is open only
 * while there is more than one instance.
 */
export class OutboxBell {
  private client: DatabaseClient | undefined;
  private opening: Promise<void> | undefined;
  private ringing = false;
  private ringAgain = false;
  private closed = false;
  /** The others know that we rest, and nobody has rung since. */
  private resting = false;

  constructor(
    private readonly dataSource: DataSource,
    private readonly holder: string,
    private readonly logger: Logger,
    private readonly onRing: () => void,
  ) {}

  /** Tells writers that nobody looks; true when they did not know: look once more, somebody may just have written. */
  async rest(): Promise<boolean> {
    const { client } = this;
    if (!client || this.resting) return false;
    // Said before, so that a ring that comes before the answer is not overwritten.
    this.resting = true;
    try {
      await runStatement(this.dataSource, rest, [this.holder]);
    } catch (error) {
      this.resting = false;
      throw error;
    }
    return true;
  }

  /** After a commit that wrote rows. One call at a time: those that come meanwhile share the next. */
  ring(): void {
    this.ringAgain = true;
    if (!this.ringing) void this.ringAll();
  }

  /** Opens the connection that hears the others, or closes it. */
  listen(wanted: boolean): void {
    if (wanted && !this.closed) this.opening ??= this.open().finally(() => (this.opening = undefined));
    else if (this.client) this.hangUp(this.client);
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.opening;
    if (this.client) this.hangUp(this.client);
  }

  private async ringAll(): Promise<void> {
    this.ringing = true;
    while (this.ringAgain && !this.closed) {
      this.ringAgain = false;
      await runStatement(this.dataSource, ring, [this.holder]).catch(() => undefined);
    }
    this.ringing = false;
  }

  private async open(): Promise<void> {
    if (this.client) return;
    const { master } = this.dataSource.driver as unknown as { readonly master: Pool };
    const client = new DatabaseClient(master.options);
    client.on('error', () => this.hangUp(client));
    client.on('end', () => this.hangUp(client));
    client.on('notification', () => {
      this.resting = false;
      this.onRing();
    });
    try {
      await client.connect();
      await client.openSession();
      // A pooler gives the session to somebody else, and the bell would ring there.
      if (!client.pooled) await (client as ClientBase).query(`LISTEN ${channel}`);
      this.client = client;
      // Whoever sleeps already has not told that it does.
      this.onRing();
    } catch (error) {
      this.logger.debug('the outbox cannot listen for other instances; it polls', { error: errorText(error) });
      this.hangUp(client);
    }
  }

  private hangUp(client: DatabaseClient): void {
    if (client === this.client) this.client = undefined;
    this.resting = false;
    void client.end().catch(() => undefined);
  }
}
