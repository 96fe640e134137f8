import type { z } from 'zod';
import { DatabaseUnavailableError } from '../database/transaction.js';
import { decode, type MessageDefinition } from '../definition.js';
import { outcomeOf, type FailurePolicy } from '../failure-policy.js';
import { errorText, type Logger } from '../logger.js';
import type { MessageCounters } from '../message-counters.js';
import type { Message } from '../message.js';
import { deadLetter, done, retryBlameless, type Outcome } from '../outcome.js';

/** A message whose data has been checked and decoded. */
export interface Received<Data = unknown> {
  readonly data: Data;
  readonly message: Message;
  /** 1 for the first. */
  readonly attempt: number;
}

/** Resolving to nothing means done; a throw is mapped by the failure policy. */
export type MessageHandler<Data> = (received: Received<Data>) => Promise<Outcome | void>;

/** An outage of the own database lasts as long as it lasts: tried again without end and without using up attempts. */
const outageRetryMs = 2_000;

interface Registration {
  readonly definition: MessageDefinition;
  readonly handle: MessageHandler<unknown>;
}

export interface DispatcherOptions {
  /** Named in logs and in the inbox. */
  readonly consumer: string;
  readonly logger: Logger;
  readonly counters: MessageCounters;
  readonly failurePolicy?: FailurePolicy;
  /** Records a message that is refused for good, before it is acknowledged. */
  readonly discarded: (message: Message, reason: string) => Promise<void>;
}

/** From a message to the handler of its type, and from whatever the handler does to an outcome. */
export class Dispatcher {
  private readonly registrations = new Map<string, Registration>();

  constructor(private readonly options: DispatcherOptions) {}

  register<Schema extends z.ZodType>(
    definition: MessageDefinition & { readonly schema: Schema },
    handle: MessageHandler<z.output<Schema>>,
  ): void {
    if (this.registrations.has(definition.type)) {
      throw new Error(`${this.options.consumer} already handles ${definition.type}; register each type once`);
    }
    this.registrations.set(definition.type, { definition, handle: handle as MessageHandler<unknown> });
  }

  get types(): string[] {
    return [...this.registrations.keys()];
  }

  handles(type: string): boolean {
    return this.registrations.has(type);
  }

  async dispatch(message: Message, attempt: number): Promise<Outcome> {
    let outcome: Outcome;
    try {
      outcome = await this.handle(message, attempt);
    } catch (error) {
      outcome = await this.triage(message, attempt, error);
    }
    this.count(message, outcome);
    return outcome;
  }

  private async handle(message: Message, attempt: number): Promise<Outcome> {
    const registration = this.registrations.get(message.type);
    if (!registration) {
      const known = this.types.join(', ') || 'none';
      return deadLetter(
        `${this.options.consumer} has no handler for ${message.type}; it handles: ${known}`,
        'UnknownType',
      );
    }
    const { definition, handle } = registration;
    if (message.version !== definition.version) {
      return deadLetter(
        `${message.type} v${message.version} is unknown here, v${definition.version} is handled; deploy a consumer that knows it, then redrive`,
        'UnknownVersion',
      );
    }
    const outcome = await handle({ data: decode(definition, message), message, attempt });
    return outcome ?? done;
  }

  private async triage(message: Message, attempt: number, error: unknown): Promise<Outcome> {
    if (error instanceof DatabaseUnavailableError) return retryBlameless(outageRetryMs, error.message);
    const outcome = outcomeOf(error, attempt, this.options.failurePolicy);
    if (outcome.kind !== 'discard') return outcome;
    try {
      await this.options.discarded(message, outcome.reason);
      return outcome;
    } catch (recordError) {
      return retryBlameless(outageRetryMs, `the refusal could not be recorded: ${errorText(recordError)}`);
    }
  }

  private count(message: Message, outcome: Outcome): void {
    const { counters, logger, consumer } = this.options;
    if (outcome.kind === 'done') return;
    const details = { consumer, id: message.id, type: message.type, reason: outcome.reason };
    if (outcome.kind === 'retry') {
      counters.retried += 1;
      logger.warn('a message will be tried again', { ...details, afterMs: outcome.afterMs });
    } else if (outcome.kind === 'discard') {
      counters.discarded += 1;
      logger.warn('a message was refused and recorded', details);
    } else {
      counters.deadLettered += 1;
      logger.error('a message needs a human', details);
    }
  }
}
