import { inspect, types } from 'node:util';
import { storableText } from './storable.js';

/** The few lines of logging that this library needs; pino and Nest's logger are adapted to it by the service. */
export interface Logger {
  debug(message: string, details?: object): void;
  info(message: string, details?: object): void;
  warn(message: string, details?: object): void;
  error(message: string, details?: object): void;
}

const ignore = (): void => undefined;
export const silentLogger: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };

/** One line that can be stored; also for errors of another realm, which are no `instanceof Error` here. */
export function errorText(error: unknown): string {
  if (error instanceof Error || types.isNativeError(error)) return storableText(`${error.name}: ${error.message}`);
  return storableText(`a value that is no Error was thrown: ${inspect(error)}`);
}

/** Longer ones say no more, and travel in a header. */
const longestStack = 4_000;

/** Where an error comes from, with what caused it; undefined where nothing was recorded. At most 4 000 characters. */
export function stackOf(error: unknown): string | undefined {
  const stacks: string[] = [];
  for (let cause = error, depth = 0; depth < 5 && typeof cause === 'object' && cause !== null; depth += 1) {
    const { stack, cause: next } = cause as { readonly stack?: unknown; readonly cause?: unknown };
    if (typeof stack === 'string') stacks.push(stack);
    cause = next;
  }
  return stacks.length === 0 ? undefined : stacks.join('\ncaused by ').slice(0, longestStack);
}
