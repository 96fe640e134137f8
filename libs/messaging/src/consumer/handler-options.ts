import type { FailurePolicy } from '../failure-policy.js';
import type { Message } from '../message.js';
import { completeTimeLimit, type TimeLimit } from './attempt.js';

/** How a handler is run; what is left out is as the service has it, and else the default. */
export interface HandlerOptions {
  /** Where its code is, for logs and errors: `EmailSender.send`. */
  readonly name?: string;
  /** Fields that it lacks are taken from the service's policy. */
  readonly failurePolicy?: FailurePolicy;
  /** `'none'` for handlers that bound their time themselves: they have no timer and no fence. */
  readonly timeLimit?: TimeLimit | 'none';
  /**
   * What the schema of a message cannot say of it, such as whom it must name; called when it is opened, before its handler.
   * A ValidationError refuses the message, as one that does not fit its schema.
   */
  readonly check?: (message: Message, data: unknown) => void;
}

export interface ResolvedHandlerOptions {
  readonly failurePolicy: FailurePolicy;
  readonly timeLimit: Required<TimeLimit> | undefined;
}

/** @throws TerminalError when a time limit makes no sense */
export function resolveOptions(handler: HandlerOptions, service: HandlerOptions): ResolvedHandlerOptions {
  const timeLimit = handler.timeLimit ?? service.timeLimit;
  return {
    failurePolicy: { ...service.failurePolicy, ...handler.failurePolicy },
    timeLimit: timeLimit === 'none' ? undefined : completeTimeLimit(timeLimit),
  };
}

/** For a line of the log. */
export const namedIn = ({ name }: HandlerOptions): { readonly handler?: string } =>
  name === undefined ? {} : { handler: name };
