import type { z } from 'zod';
import { decode, type MessageDefinition } from '../definition.js';
import type { Message } from '../message.js';
import { redact } from '../personal-fields.js';
import type { HandlerOptions } from './handler-options.js';

/** No handler is registered for the type. */
export class UnknownTypeError extends Error {
  override readonly name = 'UnknownType';
}

interface Registration<Handler> {
  readonly definition: MessageDefinition;
  readonly handler: Handler;
  readonly check: HandlerOptions['check'];
  readonly name: string;
}

export const twoHandlers = (type: string, places: string): Error =>
  new Error(`${type} has two handlers, ${places}; keep one of them`);

/** Which handler takes the messages of which type. */
export class Handlers<Handler> {
  private readonly byType = new Map<string, Registration<Handler>>();

  /** `consumer` is named in errors. */
  constructor(private readonly consumer: string) {}

  /** @throws Error when the type has a handler already */
  register(
    definition: MessageDefinition & { readonly schema: z.ZodType },
    handler: Handler,
    { check, name = 'one without a name' }: Pick<HandlerOptions, 'check' | 'name'> = {},
  ): void {
    const first = this.byType.get(definition.type);
    if (first) throw twoHandlers(definition.type, `${first.name} and ${name} of ${this.consumer}`);
    this.byType.set(definition.type, { definition, handler, check, name });
  }

  /** Names of the handlers by type. */
  get names(): ReadonlyMap<string, string> {
    return new Map([...this.byType].map(([type, { name }]) => [type, name]));
  }

  has(type: string): boolean {
    return this.byType.has(type);
  }

  of(type: string): Handler | undefined {
    return this.byType.get(type)?.handler;
  }

  /**
   * The handler of a message, and the message's data decoded for it.
   * @throws UnknownTypeError, and what `decode` and the check throw
   */
  open(message: Message): { readonly handler: Handler; readonly data: unknown } {
    const registered = this.byType.get(message.type);
    if (!registered) {
      const known = [...this.byType.keys()].join(', ') || 'none';
      const what = `${this.consumer} has no handler for ${message.type}; it handles: ${known}`;
      throw new UnknownTypeError(`${what}. Deploy a consumer that knows it, then redrive`);
    }
    const { definition, handler, check } = registered;
    const data = decode(definition, message);
    check?.(message, data);
    return { handler, data };
  }

  /** The message without plain personal data, as far as its definition is known here. */
  redact<M extends Message>(message: M): M {
    const definition = this.byType.get(message.type)?.definition;
    return definition ? { ...message, ...redact(definition, message) } : message;
  }
}
