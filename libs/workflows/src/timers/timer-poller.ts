import { Inject, Injectable, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import {
  createMessage,
  errorText,
  inTransaction,
  Messaging,
  runStatement,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import { timerFired } from '../engine/workflow.decider.js';

export interface TimerPollerOptions {
  /** How often it looks, in milliseconds; a timer may be so late. Default 500. */
  readonly everyMs?: number;
  /** Most timers in one transaction. Default 500. */
  readonly batchSize?: number;
}

interface Due extends Record<string, unknown> {
  readonly workflow_id: string;
  readonly timer_id: string;
}

// Rows are taken as from a queue: whoever else polls skips those that are taken already. The clock is read once, in a subquery:
// a volatile function in the comparison could be no condition of the index, and every timer would be read. By
// physical position, because a join of which the planner does not know how many rows it has may read them all as well.
export const take: Statement = {
  name: 'workflow-timer-take',
  text: `DELETE FROM workflow_timer WHERE ctid = ANY (ARRAY(
           SELECT ctid FROM workflow_timer WHERE due_at <= (SELECT clock_timestamp())
            ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED))
          RETURNING workflow_id, timer_id`,
};

// Most of the time nothing is due, and a transaction that finds nothing costs several times as much as this look at an index.
export const anyDue: Statement = {
  name: 'workflow-timer-due',
  text: `SELECT min(due_at) <= clock_timestamp() AS due FROM workflow_timer`,
};

/**
 * Sends the timers that are due, as commands. The row goes in the transaction that writes the command: it fires once, over any
 * number of instances and restarts. Nothing is kept in memory.
 */
@Injectable()
export class TimerPoller implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly everyMs: number;
  private readonly batchSize: number;
  private timeout: NodeJS.Timeout | undefined;
  private polling: Promise<void> | undefined;
  private stopped = false;

  constructor(
    @Inject(Messaging) private readonly messaging: Messaging,
    { everyMs = 500, batchSize = 500 }: TimerPollerOptions = {},
  ) {
    this.everyMs = everyMs;
    this.batchSize = batchSize;
  }

  onApplicationBootstrap(): void {
    this.schedule();
  }

  async onModuleDestroy(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timeout);
    await this.polling;
  }

  /** Sends what is due now. */
  async poll(): Promise<void> {
    const [next] = await runStatement<{ due: boolean | null }>(this.messaging.dataSource, anyDue);
    if (!next?.due) return;
    let taken: number;
    do taken = await inTransaction(this.messaging.dataSource, (tx) => this.send(tx));
    while (taken === this.batchSize && !this.stopped);
  }

  private schedule(): void {
    if (this.stopped) return;
    this.timeout = setTimeout(() => {
      this.polling = this.poll()
        .catch((error: unknown) =>
          this.messaging.logger.warn('timers could not be sent; tried again', { error: errorText(error) }),
        )
        .finally(() => this.schedule());
    }, this.everyMs);
  }

  private async send(tx: Transaction): Promise<number> {
    const due = await tx.query<Due>(take, [this.batchSize]);
    const { outbox, service: source } = this.messaging;
    const messages = due.map((row) => createMessage({ source, ...timerFired(row.workflow_id, row.timer_id) }));
    await outbox.add(
      tx,
      messages.map((message) => ({ channel: 'command', address: message.type, message })),
    );
    return due.length;
  }
}
