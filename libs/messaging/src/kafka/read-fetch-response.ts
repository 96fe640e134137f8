import { createRequire } from 'node:module';
import type { KafkaMessage } from 'kafkajs';
import { errorText } from '../logger.js';
import { codecName } from './codecs.js';

/** A batch that could not be read; everything from it on waits. */
export interface Unreadable {
  /** Its first and its last offset. */
  readonly from: bigint;
  readonly to: bigint;
  /** How it is compressed: `none`, `gzip`, `snappy`, `lz4`, `zstd`. */
  readonly codec: string;
  readonly why: string;
}

/**
 * What comes last in a fetched batch, where there is more to say than its records do: up to this offset nothing is left for us
 * (control records, aborted transactions, what compaction has removed), or nothing can be read.
 */
export interface Mark {
  readonly offset: bigint;
  readonly unreadable?: Unreadable;
}

interface Decoder {
  readInt16(): number;
  readInt32(): number;
  readInt64(): { toString(): string };
  readString(): string;
  readBytes(length: number): Buffer;
  readArray<T>(read: (decoder: Decoder) => T): T[];
  readArrayAsync<T>(read: (decoder: Decoder) => Promise<T>): Promise<T[]>;
  canReadBytes(length: number): boolean;
}

interface FetchResponse {
  decode(bytes: Buffer): Promise<unknown>;
}

interface RecordBatch {
  readonly isControlBatch: boolean;
  readonly records: readonly KafkaMessage[];
}

const require = createRequire(import.meta.url);
const DecoderOf = require('kafkajs/src/protocol/decoder.js') as new (bytes: Buffer) => Decoder;
const decodeBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder.js') as (d: Decoder) => Promise<RecordBatch>;
const decodeOldMessages = require('kafkajs/src/protocol/messageSet/decoder.js') as (
  decoder: Decoder,
  size: number,
) => Promise<KafkaMessage[]>;
const response = require('kafkajs/src/protocol/requests/fetch/v11/response.js') as FetchResponse;

/**
 * kafkajs 2.2.4 fails a whole fetch, of all partitions, when one batch in it cannot be read, does not say which one it was,
 * and does not show what it passes over, so that such offsets could never be committed. Version 11 of the request is the one
 * that it uses with brokers from 2.3 on.
 */
response.decode = async (bytes) => {
  const decoder = new DecoderOf(bytes);
  const clientSideThrottleTime = decoder.readInt32();
  const errorCode = decoder.readInt16();
  const sessionId = decoder.readInt32();
  const responses = await decoder.readArrayAsync(async (topic) => ({
    topicName: topic.readString(),
    partitions: await topic.readArrayAsync(readPartition),
  }));
  // The broker has not throttled this request, it expects the client to wait: as in kafkajs.
  return { throttleTime: 0, clientSideThrottleTime, errorCode, sessionId, responses };
};

async function readPartition(decoder: Decoder) {
  const header = {
    partition: decoder.readInt32(),
    errorCode: decoder.readInt16(),
    highWatermark: decoder.readInt64().toString(),
    lastStableOffset: decoder.readInt64().toString(),
    lastStartOffset: decoder.readInt64().toString(),
    abortedTransactions: decoder.readArray((transaction) => ({
      producerId: transaction.readInt64().toString(),
      firstOffset: transaction.readInt64().toString(),
    })),
    preferredReadReplica: decoder.readInt32(),
  };
  const size = decoder.readInt32();
  if (size <= 0 || !decoder.canReadBytes(size)) return { ...header, messages: [] };
  return { ...header, messages: await readRecords(decoder.readBytes(size), header.abortedTransactions.length > 0) };
}

/** Where the fields of a batch lie: base offset, length of what follows it, …; https://kafka.apache.org/documentation/#recordbatch */
const at = { length: 8, magic: 16, attributes: 21, lastOffsetDelta: 23, records: 61 };
const beforeLength = 12;

async function readRecords(bytes: Buffer, aborted: boolean): Promise<KafkaMessage[]> {
  const messages: KafkaMessage[] = [];
  let more = aborted;
  let last = -1n;
  for (let start = 0, end = 0; start + at.records <= bytes.length; start = end) {
    end = start + beforeLength + bytes.readInt32BE(start + at.length);
    // The broker cuts the last batch off where the answer is full.
    if (end > bytes.length) break;
    const batch = bytes.subarray(start, end);
    if (batch.readInt8(at.magic) < 2) return decodeOldMessages(new DecoderOf(bytes), bytes.length);
    const from = batch.readBigInt64BE(0);
    const to = from + BigInt(batch.readInt32BE(at.lastOffsetDelta));
    try {
      const { records, isControlBatch } = await decodeBatch(new DecoderOf(batch));
      for (const record of records) messages.push(record);
      more ||= isControlBatch;
      last = to;
    } catch (error) {
      const codec = codecName(batch.readInt16BE(at.attributes));
      return [...messages, markMessage({ offset: to, unreadable: { from, to, codec, why: errorText(error) } })];
    }
  }
  if (last >= 0n && (more || messages.at(-1)?.offset !== String(last))) messages.push(markMessage({ offset: last }));
  return messages;
}

const marks = new WeakMap<KafkaMessage, Mark>();

/** In the form of a record, so that kafkajs hands it over. */
function markMessage(mark: Mark): KafkaMessage {
  const message = {
    offset: String(mark.offset),
    ...{ timestamp: '0', attributes: 0, key: null, value: null, headers: {} },
    isControlRecord: false,
    batchContext: { inTransaction: false, producerId: '-1' },
  };
  marks.set(message, mark);
  return message;
}

/** The mark that this is instead of a record. */
export const markOf = (message: KafkaMessage): Mark | undefined => marks.get(message);
