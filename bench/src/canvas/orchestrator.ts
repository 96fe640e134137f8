import { eventTopic, services, StartWorkflow, WorkflowCompleted, WorkflowFailed } from '@starter/contracts';
import { freePorts } from '@starter/local-backends';
import { connectRabbitMq, newMessageId, toMessage, type CommandTransport } from '@starter/messaging';
import { startOf, type Workflow } from '@starter/workflows';
import { Kafka, logLevel, type Consumer, type EachBatchPayload } from 'kafkajs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { logger, uniqueName, type Database, type Servers } from '../servers.js';
import type { CanvasSystem, Done } from './canvas-system.js';
import { Child } from './child.js';
import { inputOf, workflowOf, type Load } from './shapes.js';

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The orchestrator as it is deployed, and a service that does the tasks: a process each, on databases of their own. A workflow is
 * started by its command, and has ended when its event is on Kafka.
 */
export class Orchestrator implements CanvasSystem {
  private readonly waiting = new Map<string, Waiting>();
  private readonly workflows = new Map<string, Workflow>();

  private constructor(
    private readonly children: readonly Child[],
    private readonly databases: readonly Database[],
    private readonly commands: CommandTransport,
    private readonly consumer: Consumer,
  ) {}

  static async start(servers: Servers, profile: boolean): Promise<Orchestrator> {
    const [rabbitMq, brokers] = [await servers.rabbitMq(), await servers.kafka()];
    const mains = [
      fileURLToPath(new URL('./main.js', import.meta.resolve('@starter/orchestrator'))),
      fileURLToPath(new URL('./worker.main.js', import.meta.url)),
    ];
    const kafka = new Kafka({ brokers, clientId: 'canvas', logLevel: logLevel.NOTHING });
    await declareForeignTopics(kafka);
    const ports = await freePorts(2 * mains.length);
    const databases = [await servers.createDatabase([]), await servers.createDatabase([])];
    const children = await Promise.all(
      mains.map((main, index) => {
        const managementPort = ports[mains.length + index];
        const environment = {
          DATABASE_URL: databases[index]?.url,
          RABBITMQ_URL: rabbitMq,
          KAFKA_BROKERS: brokers.join(','),
          HOST: '127.0.0.1',
          PORT: String(ports[index]),
          MANAGEMENT_PORT: String(managementPort),
          LOG_LEVEL: 'warn',
        };
        const profiling = profile ? ['--cpu-prof', '--cpu-prof-dir', join('data', 'bench')] : [];
        const child = new Child([process.execPath, ...profiling, main], environment);
        const health = `http://127.0.0.1:${managementPort}/health/progress`;
        return child.ready(main, async () => (await fetch(health)).ok);
      }),
    );
    const commands = await connectRabbitMq({ url: rabbitMq, logger });
    const consumer = kafka.consumer({ groupId: uniqueName('canvas') });
    const system = new Orchestrator(children, databases, commands, consumer);
    await consumer.connect();
    await consumer.subscribe({ topic: `${StartWorkflow.owner}.events`, fromBeginning: true });
    await consumer.run({ autoCommit: false, eachBatch: (payload) => Promise.resolve(system.read(payload)) });
    return system;
  }

  prepare(load: Load): void {
    const key = keyOf(load);
    if (!this.workflows.has(key)) this.workflows.set(key, workflowOf(load));
  }

  async run(load: Load): Promise<Done> {
    const results: unknown[] = [];
    const latencies: number[] = [];
    let next = 0;
    const one = async () => {
      for (let index = next++; index < load.bases.length; index = next++) {
        const start = performance.now();
        results[index] = await this.runOne(load, load.bases[index] ?? 0);
        latencies[index] = performance.now() - start;
      }
    };
    await Promise.all(Array.from({ length: load.outstanding }, one));
    return { results, latencies };
  }

  async stop(): Promise<void> {
    await this.consumer.disconnect();
    await this.commands.close();
    await Promise.all(this.children.map((child) => child.stop()));
    await Promise.all(this.databases.map((database) => database.drop()));
  }

  private runOne(load: Load, base: number): Promise<unknown> {
    const id = newMessageId();
    const workflow = this.workflows.get(keyOf(load));
    if (!workflow) throw new Error(`prepare ${keyOf(load)} first`);
    const ended = new Promise<unknown>((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    const message = toMessage(startOf(workflow, id, inputOf(load, base)), { source: 'canvas' });
    this.commands
      .send(message, { routingKey: message.type })
      .catch((error: Error) => this.waiting.get(id)?.reject(error));
    return ended;
  }

  /** A plain client of the topic: most events are not even decoded. */
  private read({ batch }: EachBatchPayload): void {
    for (const { headers, value } of batch.messages) {
      const type = String(headers?.['ce_type']);
      if (type !== WorkflowCompleted.type && type !== WorkflowFailed.type) continue;
      const data = JSON.parse(String(value)) as { workflowId: string; result?: unknown; reason?: string };
      const waiting = this.waiting.get(data.workflowId);
      this.waiting.delete(data.workflowId);
      if (type === WorkflowCompleted.type) waiting?.resolve(numbersIn(data.result));
      else waiting?.reject(new Error(`workflow ${data.workflowId} failed: ${data.reason}`));
    }
  }
}

const keyOf = ({ shape, size }: Load): string => `${shape}(${size})`;

/** `{ value: 1 }` is 1. */
const numbersIn = (result: unknown): unknown =>
  Array.isArray(result) ? result.map(numbersIn) : (result as { readonly value?: unknown } | null)?.value;

/** The orchestrator follows topics of services that do not run here: who follows a topic waits until its owner has created it. */
async function declareForeignTopics(kafka: Kafka): Promise<void> {
  const admin = kafka.admin();
  await admin.connect();
  try {
    const foreign = services.filter((service) => service !== StartWorkflow.owner);
    await admin.createTopics({ topics: foreign.map((service) => ({ topic: eventTopic(service), numPartitions: 4 })) });
  } finally {
    await admin.disconnect();
  }
}
