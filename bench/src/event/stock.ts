import { Controller, Inject, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, KafkaContext, Payload, Transport, type MicroserviceOptions } from '@nestjs/microservices';
import kafkajs from 'kafkajs';
import { DataSource } from 'typeorm';
import type { DepositData } from '../account.js';
import { openDataSource } from '../connections.js';
import { BalanceRow } from './balances.js';
import { topicOf } from './event-topic.js';
import { partitions, poolSize, type EventConsumer, type Source } from './event-consumer.js';

class Progress {
  settled = 0;
}

/** NestJS's own Kafka transport and TypeORM; only the partitions side by side are not its default, but ours. */
export async function consumeWithStock({ database, brokers, service, consumer }: Source): Promise<EventConsumer> {
  const dataSource = await openDataSource(database, poolSize, [BalanceRow]);
  const progress = new Progress();

  // In here, because the pattern is the topic of the trial.
  @Controller()
  class DepositedController {
    constructor(@Inject(DataSource) private readonly data: DataSource) {}

    @EventPattern<string>(topicOf(service))
    async deposited(@Payload() deposit: DepositData, @Ctx() context: KafkaContext): Promise<void> {
      const { accountId, amount } = deposit;
      const balances = this.data.getRepository(BalanceRow);
      const row = (await balances.findOneBy({ accountId })) ?? balances.create({ accountId, amount: 0, deposits: 0 });
      row.amount += amount;
      row.deposits += 1;
      row.version = Number(context.getMessage().headers?.['ce_sequence']);
      await balances.save(row);
      progress.settled += 1;
    }
  }

  @Module({ controllers: [DepositedController], providers: [{ provide: DataSource, useValue: dataSource }] })
  class StockModule {}

  const app = await NestFactory.createMicroservice<MicroserviceOptions>(StockModule, {
    transport: Transport.KAFKA,
    options: {
      client: { brokers, clientId: consumer, logLevel: kafkajs.logLevel.ERROR },
      consumer: { groupId: consumer },
      subscribe: { fromBeginning: true },
      run: { partitionsConsumedConcurrently: partitions },
      postfixId: '',
    },
    logger: ['error', 'warn'],
  });
  return {
    group: consumer,
    attach: async () => void (await app.listen()),
    settled: () => progress.settled,
    async stop() {
      await app.close();
      await dataSource.destroy();
    },
  };
}
