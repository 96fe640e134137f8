import { Controller, Inject, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, Payload, RmqContext, Transport, type MicroserviceOptions } from '@nestjs/microservices';
import { newMessageId, type Message } from '@starter/messaging';
import type { Channel, ConsumeMessage } from 'amqplib';
import { DataSource, QueryFailedError, type EntityManager } from 'typeorm';
import { Deposit, Deposited, streamOf, type DepositData } from '../account.js';
import { openDataSource } from '../connections.js';
import { queueOf } from './command-queue.js';
import { poolSize, prefetch, type CommandConsumer, type Urls } from './command-consumer.js';
import { EventRow, InboxRow, OutboxRow } from './stock-rows.js';

class Progress {
  settled = 0;
  constructor(readonly service: string) {}
}

@Controller()
class DepositController {
  constructor(
    @Inject(DataSource) private readonly dataSource: DataSource,
    @Inject(Progress) private readonly progress: Progress,
  ) {}

  @EventPattern<string>(Deposit.type)
  async deposit(@Payload() command: Message<DepositData>, @Ctx() context: RmqContext): Promise<void> {
    await this.once(command);
    (context.getChannelRef() as Channel).ack(context.getMessage() as unknown as ConsumeMessage);
    this.progress.settled += 1;
  }

  /** Of two commands to one account one may lose the race for the next sequence; it tries again. */
  private async once(command: Message<DepositData>): Promise<void> {
    try {
      await this.dataSource.transaction((manager) => this.store(manager, command));
    } catch (error) {
      const conflict = error instanceof QueryFailedError && (error.driverError as { code?: string }).code === '23505';
      if (!conflict) throw error;
      await this.once(command);
    }
  }

  private async store(manager: EntityManager, command: Message<DepositData>): Promise<void> {
    const { service } = this.progress;
    const received = { consumer: queueOf(service), messageId: command.id };
    const inserted = await manager
      .createQueryBuilder()
      .insert()
      .into(InboxRow)
      .values(received)
      .orIgnore()
      .returning('message_id')
      .execute();
    if ((inserted.raw as unknown[]).length === 0) return;
    const streamId = streamOf(command.data.accountId);
    const sequence = Number((await manager.maximum(EventRow, 'sequence', { streamId })) ?? 0) + 1;
    const event: Message<DepositData> = {
      id: newMessageId(),
      type: Deposited.type,
      version: Deposited.version,
      source: service,
      time: new Date().toISOString(),
      subject: streamId,
      sequence,
      correlationId: command.correlationId,
      causationId: command.id,
      data: command.data,
    };
    const { id, type, version, data, correlationId } = event;
    await manager.insert(EventRow, {
      ...{ streamId, sequence, id, type, version, data, correlationId },
      causationId: command.id,
      command: command.type,
      recordedAt: new Date(event.time),
    });
    const address = `${service}.events`;
    await manager.insert(OutboxRow, { channel: 'event', address, orderingKey: streamId, message: event });
  }
}

/** NestJS's own RabbitMQ transport and TypeORM, made durable message by message as their documentation would have it. */
export async function consumeWithStock(service: string, urls: Urls): Promise<{ consume(): Promise<CommandConsumer> }> {
  const dataSource = await openDataSource(urls.database, poolSize, [InboxRow, EventRow, OutboxRow]);
  const progress = new Progress(service);

  @Module({
    controllers: [DepositController],
    providers: [
      { provide: DataSource, useValue: dataSource },
      { provide: Progress, useValue: progress },
    ],
  })
  class StockModule {}

  const app = await NestFactory.createMicroservice<MicroserviceOptions>(StockModule, {
    transport: Transport.RMQ,
    options: {
      urls: [urls.rabbitMq],
      queue: queueOf(service),
      noAssert: true,
      noAck: false,
      persistent: true,
      prefetchCount: prefetch,
    },
    logger: ['error', 'warn'],
  });
  let stopped: Promise<void> | undefined;
  return {
    async consume() {
      await app.listen();
      return { settled: () => progress.settled, stop: () => (stopped ??= stop()) };
    },
  };

  async function stop(): Promise<void> {
    await app.close();
    await dataSource.destroy();
  }
}
