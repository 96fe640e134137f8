import { createRequire } from 'node:module';
import type { KafkaMessage } from 'kafkajs';
import './codecs.js';
import { markOf } from './read-fetch-response.js';

const require = createRequire(import.meta.url);
const response = require('kafkajs/src/protocol/requests/fetch/v11/response.js') as {
  decode(bytes: Buffer): Promise<{ responses: { topicName: string; partitions: Partition[] }[] }>;
};

interface Partition {
  readonly partition: number;
  readonly highWatermark: string;
  readonly messages: readonly KafkaMessage[];
}

const int16 = (n: number) => Buffer.from([n >> 8, n & 0xff]);
const int32 = (n: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(n);
  return bytes;
};
const int64 = (n: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(n));
  return bytes;
};
/** Of a number below 64, as Kafka's records count. */
const varint = (n: number) => Buffer.from([2 * n]);
const string = (text: string) => Buffer.concat([int16(text.length), Buffer.from(text)]);

const record = (delta: number, value: string): Buffer => {
  const body = Buffer.concat([
    ...[Buffer.from([0]), varint(0), varint(delta), varint(1), Buffer.from('k'), varint(value.length)],
    ...[Buffer.from(value), varint(0)],
  ]);
  return Buffer.concat([varint(body.length), body]);
};

interface BatchFields {
  readonly base: number;
  /** Of the last offset that the batch stands for. */
  readonly last: number;
  readonly count: number;
  readonly attributes?: number;
  readonly payload?: Buffer;
}

function batch({ base, last, count, attributes = 0, payload = Buffer.alloc(0) }: BatchFields): Buffer {
  const rest = Buffer.concat([
    ...[int32(0), Buffer.from([2]), int32(0), int16(attributes), int32(last - base), int64(0), int64(0)],
    ...[int64(-1), int16(-1), int32(-1), int32(count), payload],
  ]);
  return Buffer.concat([int64(base), int32(rest.length), rest]);
}

/** The answer to a fetch, with these bytes of each partition. */
const answer = (...partitions: Buffer[]): Buffer =>
  Buffer.concat([
    ...[int32(0), int16(0), int32(0), int32(1), string('topic'), int32(partitions.length)],
    ...partitions.flatMap((records, partition) => [
      ...[int32(partition), int16(0), int64(100), int64(100), int64(0), int32(0), int32(-1)],
      ...[int32(records.length), records],
    ]),
  ]);

const read = async (...partitions: Buffer[]) => {
  const { responses } = await response.decode(answer(...partitions));
  return (responses[0]?.partitions ?? []).map(({ messages }) =>
    messages.map((message) => markOf(message) ?? [Number(message.offset), String(message.value)]),
  );
};

const two = batch({ base: 5, last: 6, count: 2, payload: Buffer.concat([record(0, 'a'), record(1, 'b')]) });

it('reads records as they are, and says no more', async () => {
  expect(await read(two)).toEqual([
    [
      [5, 'a'],
      [6, 'b'],
    ],
  ]);
});

it('tells up to where nothing is left: a batch that compaction has emptied, or whose last records it has removed', async () => {
  expect(await read(batch({ base: 0, last: 4, count: 0 }))).toEqual([[{ offset: 4n }]]);
  const first = batch({ base: 5, last: 9, count: 1, payload: record(0, 'a') });
  expect(await read(first)).toEqual([[[5, 'a'], { offset: 9n }]]);
  expect(await read(Buffer.concat([batch({ base: 0, last: 4, count: 0 }), two]))).toEqual([
    [
      [5, 'a'],
      [6, 'b'],
    ],
  ]);
});

it('reads what lies before a batch that cannot be read, and the other partitions, and says what that one is', async () => {
  const garbage = batch({ base: 7, last: 9, count: 3, attributes: 4, payload: Buffer.from('garbage') });
  const unreadable = { from: 7n, to: 9n, codec: 'zstd', why: expect.any(String) };
  expect(await read(Buffer.concat([two, garbage, two]), two)).toEqual([
    [[5, 'a'], [6, 'b'], { offset: 9n, unreadable }],
    [
      [5, 'a'],
      [6, 'b'],
    ],
  ]);
});

it('leaves out a batch that the broker has cut off', async () => {
  expect(await read(Buffer.concat([two, two.subarray(0, -3)]))).toEqual([
    [
      [5, 'a'],
      [6, 'b'],
    ],
  ]);
});
