import { randomBytes, randomUUID } from 'node:crypto';
import kafkajs from 'kafkajs';
import { partitionOfKey } from './partition-of-key.js';

const theirs = kafkajs.Partitioners.DefaultPartitioner();
const partitionMetadata = (count: number) =>
  Array.from({ length: count }, (_, partitionId) => ({
    partitionErrorCode: 0,
    partitionId,
    leader: 0,
    replicas: [],
    isr: [],
  }));

it("agrees with kafkajs's DefaultPartitioner on keys of every length and shape", () => {
  const keys = [
    ...Array.from({ length: 64 }, (_, length) => randomBytes(length)),
    ...Array.from({ length: 500 }, () => Buffer.from(randomUUID())),
    Buffer.from('ключ'),
  ];
  for (const partitions of [1, 3, 6, 64]) {
    const metadata = partitionMetadata(partitions);
    const expected = keys.map((key) =>
      theirs({ topic: 't', partitionMetadata: metadata, message: { key, value: null } }),
    );
    const named = (numbers: number[]) => numbers.map((partition, n) => `${keys[n]!.toString('hex')} → ${partition}`);
    expect(named(keys.map((key) => partitionOfKey(key, partitions)))).toEqual(named(expected));
  }
});
