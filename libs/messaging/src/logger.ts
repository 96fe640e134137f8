import { inspect, types } from 'node:util';

/** The few lines of logging that this library needs; pino and Nest's logger are adapted to it by the service. */
export interface Logger {
  debug(message: string, details?: object): void;
  info(message: string, details?: object): void;
  warn(message: string, details?: object): void;
  error(message: string, details?: object): void;
}

const ignore = (): void => undefined;
export const silentLogger: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };

/** One line; also for errors of another realm, which are no `instanceof Error` here. */
export function errorText(error: unknown): string {
  if (error instanceof Error || types.isNativeError(error)) return `${error.name}: ${error.message}`;
  return `a value that is no Error was thrown: ${inspect(error)}`;
}
