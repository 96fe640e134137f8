import kafkajs, { type Kafka, type KafkaConfig, type logCreator } from 'kafkajs';
import type { Logger } from '../logger.js';
import './codecs.js';
import './fresh-connection.js';
import './read-fetch-response.js';
import './request-queue-delay.js';
import { SocketGate } from './socket-gate.js';

export interface KafkaConnection {
  /** `host:port` of one or more brokers. */
  readonly brokers: readonly string[];
  /** Names this client in the broker's logs and quotas. */
  readonly clientId: string;
  readonly ssl?: NonNullable<KafkaConfig['ssl']>;
  readonly sasl?: NonNullable<KafkaConfig['sasl']>;
}

export interface KafkaClient {
  readonly kafka: Kafka;
  readonly gate: SocketGate;
}

/** About `seconds` of attempts. Always given: without it kafkajs retries otherwise when NODE_ENV is `test`. */
export const retryFor = (seconds: number) => ({
  initialRetryTime: 100,
  multiplier: 2,
  maxRetryTime: 1000,
  factor: 0.2,
  retries: 3 + seconds,
});

/** A kafkajs client of its own for every purpose, so that each can be discarded without the others. */
export function createClient(
  { brokers, clientId, ssl, sasl }: KafkaConnection,
  logger: Logger,
  { retrySeconds = 2, onDisconnected }: { retrySeconds?: number; onDisconnected?: () => void } = {},
): KafkaClient {
  const gate = new SocketGate(onDisconnected);
  const kafka = new kafkajs.Kafka({
    // An empty list is the one answer that ends kafkajs's retries at once.
    brokers: () => (gate.cutOff ? [] : [...brokers]),
    clientId,
    ...(ssl === undefined ? {} : { ssl }),
    ...(sasl === undefined ? {} : { sasl }),
    connectionTimeout: 3_000,
    requestTimeout: 10_000,
    retry: retryFor(retrySeconds),
    socketFactory: gate.open,
    logLevel: kafkajs.logLevel.INFO,
    logCreator: logThrough(logger, gate),
  });
  return { kafka, gate };
}

/**
 * What kafkajs calls an error it mostly retries ("coordinator is loading", a broker that restarts), and what it does not
 * comes back to us as a rejection or a crash: so nothing of it is more than a warning, and its news are for debugging.
 */
const logThrough =
  (logger: Logger, gate: SocketGate): logCreator =>
  () =>
  ({ namespace, level, log: { message, timestamp: _, logger: __, stack: ___, ...details } }) => {
    if (gate.cutOff || message.includes(limitedRetries)) return;
    const severity = level <= kafkajs.logLevel.WARN ? 'warn' : 'debug';
    logger[severity](`kafkajs ${namespace}: ${message}`, details);
  };

/** Its advice against limited retries of idempotent producers; a producer whose send has failed is never used again. */
const limitedRetries = 'Limiting retries for the idempotent producer';
