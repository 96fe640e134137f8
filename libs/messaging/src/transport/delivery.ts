import type { Flow } from '../flow/flow-gate.js';
import type { Message } from '../message.js';
import type { Outcome } from '../outcome.js';
import type { StandStill } from '../stand-stills.js';

export interface Delivery {
  readonly message: Message;
  /** 1 for the first; counted by us in the message (commands) or in the consumer (events), never by the broker. */
  readonly attempt: number;
  /**
   * Somebody may have been given it before. A command: the broker says so. An event: it lay there before its partition came to
   * this member, and not further behind the committed offset than a member has in hand.
   */
  readonly redelivered: boolean;
  /** Queue name, or `topic[partition]@offset`: for logs and dead letters. */
  readonly origin: string;
}

/**
 * Called once per delivery; calls start in the order of the queue or partition and up to the configured number run at
 * the same time. It must resolve to an outcome; a throw is treated as `retry(1000)` without counting against anything but
 * the attempt, and is logged as a defect of the caller.
 */
export type DeliveryHandler = (delivery: Delivery) => Promise<Outcome>;

export interface Consumer {
  /** Attached to the broker and able to receive now; false while a connection is being rebuilt. */
  readonly attached: boolean;
  /** What keeps it from its messages, and what to do; undefined when nothing does, or only a connection that is being rebuilt. */
  readonly problem?: string | undefined;
  /** Deliveries that have not settled yet; events that wait for their next attempt in memory are among them. */
  readonly inFlight: number;
  readonly flow: Flow;
  /** What has not come to its end for longer than so many milliseconds, with its place. */
  standStills(ms: number): StandStill[];
  /** How many messages the broker holds for it: those of its queue that nobody has been given, or of its partitions. */
  backlog(): Promise<number>;
  /** Detaches and attaches again, because it got nothing although messages wait. What is in hand is delivered again. */
  rebuild(why: string): void;
  /**
   * Stops taking, waits for the handlers in flight (at most `drainMs`, default 10 000), settles what finished and gives
   * the rest back to the broker. Idempotent.
   */
  close(drainMs?: number): Promise<void>;
}

/** Why a message lies in a dead-letter queue or topic; written as headers with these names. */
export const deadLetterHeaders = {
  reason: 'x-dead-letter-reason',
  errorType: 'x-dead-letter-error-type',
  /** Of the error that a handler threw; absent where none did. */
  stack: 'x-dead-letter-stack',
  /** Queue or `topic[partition]@offset` it came from. */
  origin: 'x-dead-letter-origin',
  /** Queue's consumer, or the consumer group. */
  consumer: 'x-dead-letter-consumer',
  /** Attempts made, as a decimal number. */
  attempts: 'x-dead-letter-attempts',
  /** ISO 8601 instant. */
  time: 'x-dead-letter-time',
} as const;
