import { defineCommand, StartWorkflow } from '@starter/contracts';
import {
  commandsExchange,
  connectRabbitMq,
  deadLetterQueue,
  done,
  MemoryCommandBroker,
  MemoryCommandTransport,
  newMessageId,
  toMessage,
  type CommandTransport,
  type Message,
} from '@starter/messaging';
import type { RunningService } from '@starter/service';
import { eventually, ServiceBackends, uniqueName } from '@starter/testing';
import amqp from 'amqplib';
import { z } from 'zod';
import { orchestrator } from '@starter/orchestrator';
import { task, workflow } from './definition/builder.js';

interface Broker {
  connect(): Promise<CommandTransport>;
  /** Sends what no client of ours would. */
  send(routingKey: string, content: Buffer, properties: amqp.Options.Publish): void;
  close(queues: readonly string[]): Promise<void>;
}

const url = process.env['RABBITMQ_URL'];
const brokers: [string, () => Promise<Broker>][] = [['memory', memory]];
if (url) brokers.push(['rabbitmq', () => rabbitMq(url)]);

function memory(): Promise<Broker> {
  const broker = new MemoryCommandBroker();
  return Promise.resolve({
    connect: () => Promise.resolve(new MemoryCommandTransport(broker)),
    send: (routingKey, content, properties) =>
      void broker.publish(commandsExchange, routingKey, { content, properties: properties as object }),
    close: () => Promise.resolve(),
  });
}

async function rabbitMq(address: string): Promise<Broker> {
  const connection = await amqp.connect(address);
  const channel = await connection.createChannel();
  return {
    connect: () => connectRabbitMq({ url: address }),
    send: (routingKey, content, properties) => void channel.publish(commandsExchange, routingKey, content, properties),
    close: async (queues) => {
      for (const queue of queues) {
        for (const name of [queue, deadLetterQueue(queue)]) await channel.deleteQueue(name);
      }
      await connection.close();
    },
  };
}

/** Bodies of a worker that somebody else has written; `$` stands for the id of the request. */
const replies: [what: string, type: string, body: string | Buffer, told: string][] = [
  ['no JSON', 'command.succeeded', 'done', 'not JSON'],
  ['nothing', 'command.succeeded', '', 'not JSON'],
  ['no UTF-8', 'command.succeeded', Buffer.from([0x22, 0xff, 0x22]), 'not UTF-8'],
  ['a text', 'command.succeeded', '"done"', 'does not fit command.succeeded v1'],
  ['null', 'command.succeeded', 'null', 'does not fit command.succeeded v1'],
  ['no result', 'command.succeeded', '{"requestId":"$"}', 'result'],
  ['no request', 'command.succeeded', '{"result":1}', 'requestId'],
  ['a request that is a number', 'command.succeeded', '{"requestId":1,"result":1}', 'requestId'],
  ['U+0000', 'command.succeeded', String.raw`{"requestId":"$","result":"\u0000"}`, 'U+0000'],
  ['half a surrogate pair', 'command.succeeded', String.raw`{"requestId":"$","result":{"a":"\ud800"}}`, 'surrogate'],
  ['10,000 levels', 'command.succeeded', `{"requestId":"$","result":${'['.repeat(1e4)}${']'.repeat(1e4)}}`, 'too deep'],
  ['a number beyond all', 'command.succeeded', '{"requestId":"$","result":1e400}', 'beyond the numbers of JSON'],
  ['no reason', 'command.failed', '{"requestId":"$"}', 'reason'],
  ['a reason that is no text', 'command.failed', '{"requestId":"$","reason":{"code":7}}', 'reason'],
  ['an unknown verdict', 'command.failed', '{"requestId":"$","reason":"no","hopeless":"quite"}', 'hopeless'],
];

describe.each(brokers)('a worker of somebody else, over %s', (_, open) => {
  const worker = uniqueName('worker');
  const Work = defineCommand(`${worker}.work`, { version: 1, owner: worker, schema: z.object({ n: z.int() }) });
  const queue = `${worker}.commands`;
  let broker: Broker;
  let backends: ServiceBackends;
  let service: RunningService;
  let transport: CommandTransport;

  beforeAll(async () => {
    broker = await open();
    backends = await ServiceBackends.open(await broker.connect());
    service = await backends.start(orchestrator);
    transport = await broker.connect();
    await transport.declare({
      exchanges: [{ name: commandsExchange, type: 'direct' }],
      queues: [{ name: queue }],
      bindings: [{ exchange: commandsExchange, queue, routingKey: Work.type }],
    });
    await transport.consume(queue, ({ message }) => Promise.resolve(answer(message)).then(() => done));
  }, 60_000);
  afterAll(async () => {
    await transport?.close();
    await service?.stop();
    await backends?.close();
    await broker?.close(['orchestrator.commands', queue]);
  });

  function answer({ id, data, replyTo }: Message): void {
    const [, type, body] = replies[(data as { n: number }).n] ?? [];
    if (type === undefined || body === undefined || !replyTo)
      throw new Error(`nothing asks for ${JSON.stringify(data)}`);
    const content = Buffer.isBuffer(body) ? body : Buffer.from(body.replace('$', id));
    const headers = { subject: replyTo.subject, 'causation-id': id };
    broker.send(replyTo.address, content, { messageId: newMessageId(), type, headers });
  }

  it.each(replies.map(([what, , , told], n) => [what, n, told] as const))(
    'that answers with %s fails its request, with the reason',
    async (_what, n, told) => {
      const workflowId = newMessageId();
      const { definition } = workflow('foreign', { input: z.object({}) }, () => task(Work, { n }));
      const start = StartWorkflow.of({ workflowId, workflow: 'foreign', definition, input: {} });
      await transport.send(toMessage(start, { source: 'spec' }));
      await eventually(async () => {
        const response = await fetch(`${service.url}/workflows/${workflowId}`);
        expect(await response.json()).toMatchObject({ state: 'failed' });
      });
      const response = await fetch(`${service.url}/workflows/${workflowId}`);
      expect(JSON.stringify(await response.json())).toContain(told);
    },
  );
});
