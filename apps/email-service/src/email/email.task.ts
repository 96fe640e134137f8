import type { OnModuleInit } from '@nestjs/common';
import { SendEmail } from '@starter/contracts';
import { outcomeOfExecution, type ActorRuntime, type Command } from '@starter/event-sourcing';
import {
  backoffDelay,
  causedBy,
  DatabaseUnavailableError,
  done,
  doneAs,
  failpoint,
  KeyNotArrivedError,
  KeyedQueue,
  retry,
  retryBlameless,
  toMessage,
  type DataOf,
  type Draft,
  type FailurePolicy,
  type Message,
  type Messaging,
  type Outcome,
  type Received,
} from '@starter/messaging';
import { setTimeout as sleep } from 'node:timers/promises';
import { RecordEmailFailed, RecordEmailSent } from './email-outcome.js';
import { emailDelivery } from './email.decider.js';
import { PermanentMailError, TransientMailError } from './mail-error.js';
import type { Mailer } from './mailer.js';
import { render } from './templates.js';
import { withhold } from './withhold.js';

const outageRetryMs = 1_000;
const keyRetryMs = 500;

/** Who seals what is in a `SendEmail`. */
const recipients = 'user-service';

type Email = DataOf<typeof SendEmail>;

/**
 * Sends the e-mail of a `SendEmail` command: record the attempt, hand the e-mail to the mail server, record the outcome.
 *
 * Recording is exactly once. Handing over is **at least once**, because a mail server takes no part in a transaction. What
 * a kill of the process leads to, when the broker delivers the command again:
 *
 * - before the attempt is recorded: nothing has happened, it is the first attempt;
 * - from there until the outcome is recorded: one attempt more. If the server had taken the e-mail, it gets a second copy
 *   with the same Message-ID. The same happens when the broker gives the command to another process meanwhile;
 * - after the outcome is recorded: the actor says so, and nothing is sent.
 *
 * The outcome, its event, the reply and the inbox row are one transaction.
 *
 * Address and variables come sealed and are opened here, right before they are sent; nothing else of the service sees them.
 */
export class EmailTask implements OnModuleInit {
  private readonly deliveries = new KeyedQueue();

  constructor(
    private readonly messaging: Messaging,
    private readonly runtime: ActorRuntime,
    private readonly mailer: Pick<Mailer, 'send'>,
    /** Retries of transient failures: by default after about 2, 10 and 50 seconds. */
    private readonly retries: FailurePolicy = { maxRetries: 3, backoff: { baseMs: 2_000, factor: 5 } },
  ) {}

  onModuleInit(): void {
    this.messaging.followKeys(recipients);
    // A duplicate that is delivered at the same time waits, and then finds the outcome.
    this.messaging.commands.handle(
      SendEmail,
      (received) => this.deliveries.run(received.message.id, () => this.deliver(received)),
      { failurePolicy: this.retries },
    );
  }

  private async deliver({ data, message, signal }: Received<Email>): Promise<Outcome> {
    let opened: Email | null;
    try {
      opened = await this.messaging.personalData.openData(SendEmail, data);
    } catch (error) {
      // It travels on another way than the command and may be a little slower; that is no attempt.
      if (error instanceof KeyNotArrivedError) return retryBlameless(keyRetryMs, error.message);
      throw error;
    }
    const attempt = await this.runtime.execute(emailDelivery, { id: message.id, command: { data, message } });
    if (attempt.kind !== 'applied') return outcomeOfExecution(attempt);
    if (attempt.state.status !== 'attempting') return doneAs.duplicates;
    if (opened === null) {
      await this.recordFailed(message, 'the recipient was erased');
      return done;
    }
    let messageId: string;
    try {
      messageId = await this.mailer.send(message.id, { to: opened.to, ...render(opened) }, signal);
    } catch (error) {
      const reasonOf = (text: string) => withhold(text, opened);
      return this.notSent(message, attempt.state.attempts, error, reasonOf, signal);
    }
    failpoint('email.after-send');
    await this.recordSent(message, messageId, signal);
    return done;
  }

  /** Attempts are those of the actor: unlike the deliveries of the broker, they survive a redrive and count no outages. */
  private async notSent(
    message: Message,
    attempts: number,
    error: unknown,
    reasonOf: (text: string) => string,
    signal: AbortSignal,
  ): Promise<Outcome> {
    if (error instanceof PermanentMailError) {
      await this.recordFailed(message, reasonOf(error.message));
      return done;
    }
    if (!(error instanceof TransientMailError)) throw error;
    const reason = reasonOf(error.message);
    const { maxRetries = 3, backoff } = this.retries;
    // What is cut off because the service stops, or for want of time, says nothing about the e-mail.
    if (attempts <= maxRetries || signal.aborted) return retry(backoffDelay(attempts, backoff), reason);
    await this.recordFailed(message, `not sent in ${attempts} attempts: ${reason}`);
    return done;
  }

  /**
   * A redelivery would send the e-mail again, so an outage of the database is waited out here. It is true however late it is
   * recorded: no fence.
   */
  private async recordSent(message: Message, messageId: string, signal: AbortSignal): Promise<void> {
    const command = this.outcomeOf(message, RecordEmailSent.of({ emailId: message.id, messageId }));
    const once = { consumer: this.messaging.commands.queue, messageId: message.id };
    for (;;) {
      try {
        await this.runtime.execute(emailDelivery, { id: message.id, command, once, answers: { request: message } });
        return;
      } catch (error) {
        if (!(error instanceof DatabaseUnavailableError) || signal.aborted) throw error;
        await sleep(outageRetryMs);
      }
    }
  }

  private async recordFailed(message: Message, reason: string): Promise<void> {
    const command = this.outcomeOf(message, RecordEmailFailed.of({ emailId: message.id, reason }));
    await this.runtime.execute(emailDelivery, {
      id: message.id,
      command,
      once: { consumer: this.messaging.commands.queue, messageId: message.id },
      answers: { request: message, failure: reason },
    });
  }

  /** It has the id of the command that it concludes, so that the stored events name that one as their cause. */
  private outcomeOf(concluded: Message, draft: Draft): Command {
    const message = toMessage(draft, { source: this.messaging.service, ...causedBy(concluded), id: concluded.id });
    return { data: draft.data, message };
  }
}
