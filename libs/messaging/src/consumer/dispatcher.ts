import type { z } from 'zod';
import type { MessageDefinition } from '../definition.js';
import { errorText } from '../logger.js';
import type { Message } from '../message.js';
import { done, retryBlameless, type Outcome } from '../outcome.js';
import { Handlers } from './handlers.js';
import { outageRetryMs, report, triage, type TriageContext } from './triage.js';

/** A message whose data has been checked and decoded. */
export interface Received<Data = unknown> {
  readonly data: Data;
  readonly message: Message;
  /** 1 for the first. */
  readonly attempt: number;
}

/** Resolving to nothing means done; a throw is mapped by the failure policy. */
export type MessageHandler<Data> = (received: Received<Data>) => Promise<Outcome | void>;

export interface DispatcherOptions extends TriageContext {
  /** Records a message that is refused for good, its personal data left out, before it is acknowledged. */
  readonly discarded: (message: Message, reason: string) => Promise<void>;
}

/** From a message to the handler of its type, and from whatever the handler does to an outcome. */
export class Dispatcher {
  private readonly handlers: Handlers<MessageHandler<unknown>>;

  constructor(private readonly options: DispatcherOptions) {
    this.handlers = new Handlers(options.consumer);
  }

  register<Schema extends z.ZodType>(
    definition: MessageDefinition & { readonly schema: Schema },
    handle: MessageHandler<z.output<Schema>>,
  ): void {
    this.handlers.register(definition, handle as MessageHandler<unknown>);
  }

  get types(): string[] {
    return this.handlers.types;
  }

  handles(type: string): boolean {
    return this.handlers.has(type);
  }

  async dispatch(message: Message, attempt: number): Promise<Outcome> {
    let outcome: Outcome;
    try {
      const { handler, data } = this.handlers.open(message);
      outcome = (await handler({ data, message, attempt })) ?? done;
    } catch (error) {
      outcome = await this.fail(message, attempt, error);
    }
    report(message, outcome, this.options);
    return outcome;
  }

  private async fail(message: Message, attempt: number, error: unknown): Promise<Outcome> {
    const outcome = triage(error, attempt, this.options.failurePolicy);
    if (outcome.kind !== 'discard') return outcome;
    try {
      await this.options.discarded(this.handlers.redact(message), outcome.reason);
      return outcome;
    } catch (recordError) {
      return retryBlameless(outageRetryMs, `the refusal could not be recorded: ${errorText(recordError)}`);
    }
  }
}
