import type { EachBatchPayload } from 'kafkajs';
import type { DepositData } from '../account.js';
import { openPool } from '../connections.js';
import { addDeposits } from './balances.js';
import { kafkaClient, topicOf } from './event-topic.js';
import { partitions, poolSize, type EventConsumer, type Source } from './event-consumer.js';

/** What somebody writes who wants speed: one upsert per batch, then its offset. No sequence, no duplicates found. */
export async function consumeRaw({ database, brokers, service, consumer: group }: Source): Promise<EventConsumer> {
  const pool = await openPool(database, poolSize);
  const consumer = kafkaClient(brokers).consumer({ groupId: group });
  await consumer.connect();
  await consumer.subscribe({ topic: topicOf(service), fromBeginning: true });
  let settled = 0;

  const eachBatch = async ({ batch }: EachBatchPayload): Promise<void> => {
    const { topic, partition, messages } = batch;
    const deposits = messages.map(({ value }) => JSON.parse(value?.toString() ?? '') as DepositData);
    await pool.query({
      ...addDeposits,
      values: [
        deposits.map(({ accountId }) => accountId),
        deposits.map(({ amount }) => amount),
        messages.map(({ headers }) => Number(headers?.['ce_sequence']?.toString())),
      ],
    });
    const offset = String(BigInt(batch.lastOffset()) + 1n);
    await consumer.commitOffsets([{ topic, partition, offset }]);
    settled += messages.length;
  };

  return {
    group,
    attach: () => consumer.run({ autoCommit: false, partitionsConsumedConcurrently: partitions, eachBatch }),
    settled: () => settled,
    async stop() {
      await consumer.disconnect();
      await pool.end();
    },
  };
}
