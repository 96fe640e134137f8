import type { Logger } from '@starter/messaging';
import { pino, type Logger as Pino } from 'pino';

export const createPino = (service: string, level: string): Pino => pino({ name: service, level });

/** Pino takes the details first. */
export const messagingLogger = (log: Pino): Logger => ({
  debug: (message, details = {}) => log.debug(details, message),
  info: (message, details = {}) => log.info(details, message),
  warn: (message, details = {}) => log.warn(details, message),
  error: (message, details = {}) => log.error(details, message),
});
