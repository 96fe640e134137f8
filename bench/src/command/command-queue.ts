import { connectRabbitMq, createMessage, type CommandTransport, type Message } from '@starter/messaging';
import { connect, type ChannelModel } from 'amqplib';
import { Deposit, streamOf, type DepositData } from '../account.js';

/** The queue of one trial, declared as the library declares it whoever consumes it: durable, quorum, dead-lettering. */
export class CommandQueue {
  private constructor(
    private readonly transport: CommandTransport,
    private readonly connection: ChannelModel,
    private readonly name: string,
  ) {}

  static async declare(url: string, service: string): Promise<CommandQueue> {
    const name = queueOf(service);
    const transport = await connectRabbitMq({ url });
    await transport.declare({ queues: [{ name }] });
    return new CommandQueue(transport, await connect(url), name);
  }

  async fill(commands: readonly DepositData[]): Promise<void> {
    const options = { exchange: '', routingKey: this.name };
    await Promise.all(commands.map((data) => this.transport.send(messageOf(data), options)));
  }

  /** The body that `ClientRMQ.emit` of NestJS would send. */
  async fillForNest(commands: readonly DepositData[]): Promise<void> {
    const channel = await this.connection.createConfirmChannel();
    for (const data of commands) {
      const body = JSON.stringify({ pattern: Deposit.type, data: messageOf(data) });
      channel.sendToQueue(this.name, Buffer.from(body), { persistent: true });
    }
    await channel.waitForConfirms();
    await channel.close();
  }

  /** Commands that are not acknowledged; right only when nobody consumes any more. */
  async depth(): Promise<number> {
    const channel = await this.connection.createChannel();
    const { messageCount } = await channel.checkQueue(this.name);
    await channel.close();
    return messageCount;
  }

  async delete(): Promise<void> {
    const channel = await this.connection.createChannel();
    await channel.deleteQueue(this.name);
    await channel.deleteQueue(`${this.name}.dead-letter`);
    await this.connection.close();
    await this.transport.close();
  }
}

export const queueOf = (service: string): string => `${service}.commands`;

const messageOf = (data: DepositData): Message<DepositData> =>
  createMessage({
    type: Deposit.type,
    version: Deposit.version,
    source: 'bench',
    subject: streamOf(data.accountId),
    data,
  });
