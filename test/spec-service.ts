import { uniqueName } from '@starter/testing';
import { connect as connectAmqp } from 'amqplib';
import kafkajs from 'kafkajs';
import { spawn, type ChildProcess } from 'node:child_process';
import { createServer, type AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';

export interface Backends {
  readonly DATABASE_URL: string;
  readonly RABBITMQ_URL: string;
  readonly KAFKA_BROKERS: string;
}

interface LogLine {
  readonly msg: string;
  readonly [detail: string]: unknown;
}

interface Probe {
  readonly status: number;
  readonly body: { readonly error?: Record<string, Record<string, unknown>>; readonly info?: object };
}

/** A real service in a process of its own (spec-service.main.mjs), looked at from outside. */
export class SpecService {
  readonly log: LogLine[] = [];
  /** What it said that is no line of its log. */
  readonly complaints: string[] = [];
  readonly exit: Promise<number | null>;
  private readonly child: ChildProcess;

  private constructor(
    readonly name: string,
    /** Of its health. */
    private readonly port: number,
    environment: Readonly<Record<string, string>>,
  ) {
    const script = new URL('spec-service.main.mjs', import.meta.url).pathname;
    const child = spawn(process.execPath, [script], {
      env: {
        PATH: process.env['PATH'],
        HOST: '127.0.0.1',
        PORT: '0',
        MANAGEMENT_PORT: String(port),
        SERVICE_NAME: name,
        ...environment,
      },
    });
    createInterface(child.stdout).on('line', (line) => this.log.push(JSON.parse(line) as LogLine));
    createInterface(child.stderr).on('line', (line) => this.complaints.push(line));
    this.exit = new Promise((resolve) => child.once('close', resolve));
    this.child = child;
  }

  static async start(
    backends: Backends,
    settings: Readonly<Record<string, string>> = {},
    name = uniqueName('spec'),
  ): Promise<SpecService> {
    return new SpecService(name, await freePort(), { ...backends, ...settings });
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async probe(name: 'live' | 'ready' | 'progress' | 'startup'): Promise<Probe> {
    const response = await fetch(`http://127.0.0.1:${this.port}/health/${name}`);
    return { status: response.status, body: (await response.json()) as Probe['body'] };
  }

  /** Its messages in the log, in order. */
  get messages(): string[] {
    return this.log.map(({ msg }) => msg);
  }

  /** Ends it, and removes its queues and topics. */
  async remove({ RABBITMQ_URL, KAFKA_BROKERS }: Pick<Backends, 'RABBITMQ_URL' | 'KAFKA_BROKERS'>): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exit;
    const queue = `${this.name}.commands`;
    const connection = await connectAmqp(RABBITMQ_URL);
    const channel = await connection.createChannel();
    for (const name of [queue, `${queue}.dead-letter`]) await channel.deleteQueue(name);
    await connection.close();
    const admin = new kafkajs.Kafka({ brokers: [KAFKA_BROKERS], logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(`${this.name}.`));
    if (topics.length > 0) await admin.deleteTopics({ topics });
    await admin.disconnect();
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
