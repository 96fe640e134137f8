import {
  ForbiddenDestinationError,
  InvalidMessageError,
  MessageTooLargeError,
  UnroutableError,
  type RefusedError,
} from '../errors.js';
import { errorText } from '../logger.js';

type Refusal = new (message: string, options?: ErrorOptions) => RefusedError;

/**
 * The answers of a broker that are about a record or its topic; kafkajs names them by `type`. Every other one is about the
 * broker or its replicas and says nothing about the record.
 */
const refusals: ReadonlyMap<string, readonly [Refusal, string]> = new Map<string, readonly [Refusal, string]>([
  [
    'MESSAGE_TOO_LARGE',
    [MessageTooLargeError, 'publish a reference to the data, or raise max.message.bytes of the topic'],
  ],
  [
    'RECORD_LIST_TOO_LARGE',
    [MessageTooLargeError, 'publish a reference to the data, or raise segment.bytes of the topic'],
  ],
  ['INVALID_RECORD', [InvalidMessageError, 'correct the record, or what the topic asks of its records']],
  ['INVALID_TIMESTAMP', [InvalidMessageError, 'correct the clock of this host, or message.timestamp.* of the topic']],
  ['CORRUPT_MESSAGE', [InvalidMessageError, 'correct the record, or what the topic asks of its records']],
  ['UNKNOWN_TOPIC_OR_PARTITION', [UnroutableError, 'call declare() for it at start-up, or correct its name']],
  ['INVALID_TOPIC_EXCEPTION', [UnroutableError, 'correct its name']],
  ['TOPIC_AUTHORIZATION_FAILED', [ForbiddenDestinationError, 'allow this client to write to it']],
]);

/** Undefined for an error that says nothing about the records of the request. */
export function refusalOf(error: unknown, topic: string): RefusedError | undefined {
  // kafkajs wraps the answer of the broker, once for its retries and once more when they are over.
  for (let cause = error as Caused | undefined; cause; cause = cause.cause) {
    const found = refusals.get(cause.type ?? '');
    if (!found) continue;
    const [ErrorType, remedy] = found;
    return new ErrorType(`Kafka refuses a record for topic ${topic} (${errorText(cause)}): ${remedy}`, {
      cause: error,
    });
  }
  return undefined;
}

interface Caused {
  readonly type?: string;
  readonly cause?: Caused;
}
