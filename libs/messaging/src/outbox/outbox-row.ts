import type { Message } from '../message.js';

export interface OutboxRow {
  /** bigint as a decimal string. */
  readonly position: string;
  readonly shard: number;
  readonly channel: 'command' | 'event';
  /** Of a command; `''` takes it straight into the queue that the address names. */
  readonly exchange: string | null;
  readonly address: string;
  readonly ordering_key: string;
  readonly message: Message;
  readonly redrives: number;
  readonly written_at: Date;
}

/** The events of a key that go to a topic wait for one that Kafka has refused. */
export interface HeldKey {
  readonly address: string;
  readonly key: string;
}

/** As the statements write it. */
export const placeOfKey = (address: string, key: string): string => `${address} ${key}`;
