import { Controller, Inject, type OnModuleInit, Optional } from '@nestjs/common';
import { SendEmail } from '@starter/contracts';
import { ActorRuntime, outcomeOfExecution, type Command } from '@starter/event-sourcing';
import {
  backoffDelay,
  causedBy,
  DatabaseUnavailableError,
  deadLetter,
  done,
  doneAs,
  failpoint,
  KeyedQueue,
  Messaging,
  OnCommand,
  retriesExhausted,
  retry,
  retryBlameless,
  toMessage,
  type DataOf,
  type Draft,
  type FailurePolicy,
  type Message,
  type Outcome,
  type Received,
} from '@starter/messaging';
import { KeyNotArrivedError, PersonalData } from '@starter/personal-data';
import { setTimeout as sleep } from 'node:timers/promises';
import { RecordEmailFailed, RecordEmailSent } from './email-outcome.js';
import { emailDelivery } from './email.decider.js';
import { MailError } from './mail-error.js';
import { MailServerState } from './mail-server-state.js';
import { Mailer } from './mailer.js';
import { render } from './templates.js';
import { withhold } from './withhold.js';

const outageRetryMs = 1_000;
const keyRetryMs = 500;

/**
 * Delays after the first temporary failures: 30 s, doubling up to 4 h. Mail servers greylist for minutes and are away for hours;
 * an e-mail is given to a human after two days, and never counts as failed for being late.
 */
export const temporary: FailurePolicy = { maxRetries: 21, backoff: { baseMs: 30_000, maxMs: 14_400_000 } };

/** Others than {@link temporary}, for specs. */
const emailRetries = Symbol('EmailRetries');

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
@Controller()
export class EmailSender implements OnModuleInit {
  private readonly deliveries = new KeyedQueue();

  constructor(
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(PersonalData) private readonly personalData: PersonalData,
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
    @Inject(Mailer) private readonly mailer: Pick<Mailer, 'send'>,
    @Inject(MailServerState) private readonly server: MailServerState,
    @Optional() @Inject(emailRetries) private readonly retries: FailurePolicy = temporary,
  ) {}

  onModuleInit(): void {
    this.messaging.reportProblems(() =>
      this.server.problem ? [{ part: 'mail server', problem: this.server.problem }] : [],
    );
  }

  @OnCommand(SendEmail, { failurePolicy: temporary })
  send(received: Received<typeof SendEmail>): Promise<Outcome> {
    // A duplicate that is delivered at the same time waits, and then finds the outcome.
    return this.deliveries.run(received.message.id, () => this.deliver(received));
  }

  private async deliver({ data, message, attempt: tries, signal }: Received<typeof SendEmail>): Promise<Outcome> {
    // Before the attempt is recorded: that no e-mail goes through says nothing about this one.
    const waitMs = this.server.admit();
    if (waitMs > 0) return retryBlameless(waitMs, this.server.problem ?? 'no e-mail goes through');
    let opened: Email | null;
    try {
      opened = await this.personalData.openData(SendEmail, data);
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
      if (!(error instanceof MailError)) throw error;
      return this.notSent(message, tries, error, withhold(error.message, opened), signal);
    }
    this.server.works();
    failpoint('email.after-send');
    await this.recordSent(message, messageId, signal);
    return done;
  }

  /** `tries` counts what failed because of this e-mail, since it was redriven. */
  private async notSent(
    message: Message,
    tries: number,
    { fault, isFinal }: MailError,
    reason: string,
    signal: AbortSignal,
  ): Promise<Outcome> {
    if (isFinal) {
      if (fault === 'recipient') this.server.works();
      await this.recordFailed(message, reason);
      return done;
    }
    if (fault === 'set-up') {
      this.server.fails(reason);
      return retryBlameless(this.server.admit(), reason);
    }
    const { maxRetries = 3, backoff } = this.retries;
    // What is cut off because the service stops, or for want of time, says nothing about the e-mail.
    if (tries <= maxRetries || signal.aborted) return retry(backoffDelay(tries, backoff), reason);
    return deadLetter(`not sent in ${tries} attempts: ${reason}`, retriesExhausted);
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
