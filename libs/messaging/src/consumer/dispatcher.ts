import type { z } from 'zod';
import type { Fence } from '../database/transaction.js';
import { outageOf } from '../database/unavailable.js';
import type { MessageDefinition, PayloadOf } from '../definition.js';
import { TransientError } from '../errors.js';
import { failpoint } from '../failpoint.js';
import { outcomeOfOpening } from '../failure-policy.js';
import { checkInboxRetention, defaultInboxRetentionMs, retryHorizonMs } from '../inbox/retention.js';
import { keptOf, type Discarded } from '../inbox/discarded.js';
import { errorText } from '../logger.js';
import type { Message } from '../message.js';
import { deadLetter, done, retryBlameless, type Outcome } from '../outcome.js';
import { Attempt } from './attempt.js';
import { resolveOptions, type HandlerOptions, type ResolvedHandlerOptions } from './handler-options.js';
import { Handlers } from './handlers.js';
import { outageRetryMs, report, triage, type TriageContext } from './triage.js';

/** A message whose data has been checked and decoded: `Received<typeof SendEmail>`, or `Received<Data>`. */
export type Received<Of = unknown> = ReceivedMessage<PayloadOf<Of>>;

export interface ReceivedMessage<Data> {
  readonly data: Data;
  readonly message: Message;
  /** 1 for the first. */
  readonly attempt: number;
  /** Aborts at the soft time limit, or when the service stops and does not wait any longer; its reason says which. */
  readonly signal: AbortSignal;
  /** For `inTransaction` and `runtime.execute`: nothing of this attempt is committed after its hard time limit. */
  readonly fence?: Fence;
}

/** Resolving to nothing means done; a throw is mapped by the failure policy. */
export type MessageHandler<Data> = (received: Received<Data>) => Promise<Outcome | void>;

interface Registered extends ResolvedHandlerOptions {
  readonly handle: MessageHandler<unknown>;
}

export interface DispatcherOptions extends TriageContext, HandlerOptions {
  /** How long the inbox knows a message. Default 30 days. */
  readonly inboxRetentionMs?: number;
  /** Records a message that is refused for good, before it is acknowledged. */
  readonly discarded: (discarded: Discarded) => Promise<void>;
}

/** From a message to the handler of its type, and from whatever the handler does to an outcome. */
export class Dispatcher {
  private readonly handlers: Handlers<Registered>;
  private readonly running = new Set<Attempt>();
  private stopReason: Error | undefined;

  constructor(private readonly options: DispatcherOptions) {
    this.handlers = new Handlers(options.consumer);
  }

  /** @throws Error when its retries take longer than the inbox knows a message */
  register<Schema extends z.ZodType>(
    definition: MessageDefinition & { readonly schema: Schema },
    handle: MessageHandler<z.output<Schema>>,
    options: HandlerOptions = {},
  ): void {
    const resolved = resolveOptions(options, this.options);
    const { inboxRetentionMs = defaultInboxRetentionMs } = this.options;
    const horizonMs = retryHorizonMs(resolved.failurePolicy, resolved.timeLimit?.hardMs);
    checkInboxRetention(inboxRetentionMs, horizonMs, definition.type);
    this.handlers.register(definition, { ...resolved, handle: handle as MessageHandler<unknown> }, options);
  }

  /** Names of the handlers by type. */
  get names(): ReadonlyMap<string, string> {
    return this.handlers.names;
  }

  handles(type: string): boolean {
    return this.handlers.has(type);
  }

  async dispatch(message: Message, attempt: number): Promise<Outcome> {
    const outcome = await this.outcomeOf(message, attempt);
    report(message, outcome, this.options);
    return outcome;
  }

  /** Without the plain personal data of the types that are handled here. */
  redact(message: Message): Message {
    return this.handlers.redact(message);
  }

  /** Nobody waits for the handlers that still run: their signals abort. */
  abandon(): void {
    this.stopReason = new TransientError(`${this.options.consumer} stops; what is not done is delivered again`);
    for (const attempt of this.running) attempt.abort(this.stopReason);
  }

  private async outcomeOf(message: Message, attempt: number): Promise<Outcome> {
    let opened: ReturnType<typeof this.handlers.open>;
    try {
      opened = this.handlers.open(message);
    } catch (error) {
      return this.settle(message, outcomeOfOpening(error));
    }
    try {
      const { handler, data } = opened;
      failpoint('message.handling', message.id);
      return (await this.attempt(handler, { data, message, attempt })) ?? done;
    } catch (error) {
      // What it needs has been closed under it: that says nothing about the message.
      if (this.stopReason) return retryBlameless(outageRetryMs, `the service stops: ${errorText(error)}`);
      return this.settle(message, triage(error, attempt, opened.handler.failurePolicy));
    }
  }

  private async attempt(
    { handle, timeLimit }: Registered,
    received: Omit<Received, 'signal'>,
  ): Promise<Outcome | void> {
    // Each has a signal of its own: what handlers leave listening on one of all would add up.
    const attempt = new Attempt();
    if (this.stopReason) attempt.abort(this.stopReason);
    this.running.add(attempt);
    try {
      const attempted: Received = {
        ...received,
        get signal() {
          return attempt.signal;
        },
      };
      if (!timeLimit) return await handle(attempted);
      return await attempt.run(
        `the handler of ${received.message.type}`,
        timeLimit,
        () => handle(Object.assign(attempted, { fence: attempt })),
        () => this.reportLate(received),
      );
    } finally {
      this.running.delete(attempt);
    }
  }

  private reportLate({ message: { id, type }, attempt }: Omit<Received, 'signal'>): void {
    const { logger, consumer } = this.options;
    logger.warn('a handler ended after its hard time limit; its result is ignored', { consumer, id, type, attempt });
  }

  /** What is discarded is recorded first. */
  private async settle(message: Message, outcome: Outcome): Promise<Outcome> {
    if (outcome.kind !== 'discard') return outcome;
    try {
      await this.options.discarded(keptOf(message, outcome.reason, (kept) => this.handlers.redact(kept)));
      return outcome;
    } catch (recordError) {
      const what = `it could not be recorded as discarded: ${errorText(recordError)}`;
      if (outageOf(recordError)) return retryBlameless(outageRetryMs, what);
      // It would be no other the next time; its dead letter keeps the bytes.
      return deadLetter(`${what}; it was to be discarded because of: ${outcome.reason}`, 'Unrecordable');
    }
  }
}
