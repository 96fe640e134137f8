import { commandQueue, eventTopic, services, type ServiceName } from '@starter/contracts';
import { deadLetterQueue } from '@starter/messaging';
import { connect } from 'amqplib';
import { ask } from './database.js';
import { KafkaReader, type ReadRecord } from './kafka-reader.js';
import type { Sampled } from './sampler.js';
import type { System } from './system.js';

export interface StreamRow {
  readonly stream: string;
  readonly events: number;
  readonly first: number;
  readonly last: number;
  /** Type of each event, in order. */
  readonly types: readonly string[];
}

/** Whether nothing is under way any more. */
export interface Progress {
  readonly active: number;
  readonly running: number;
  readonly outbox: number;
  readonly parked: number;
  readonly ready: number;
  readonly deadLetters: number;
  readonly lag: number;
}

/** What an independent reader finds in the databases, the brokers and the mailbox. Plain data, so that checks can be tested. */
export interface Observation extends Omit<Progress, 'active' | 'running'>, Sampled {
  readonly streams: Readonly<Record<ServiceName, readonly StreamRow[]>>;
  /** Status in the directory by user id. */
  readonly directory: ReadonlyMap<string, string>;
  /** State by workflow id. */
  readonly workflows: ReadonlyMap<string, string>;
  /** By Message-ID. */
  readonly mails: readonly { readonly to: string; readonly messageId: string }[];
  readonly mailCopies: number;
  readonly records: readonly ReadRecord[];
  /** What each workflow has told its last step of the steps before, by workflow id: whom the e-mails went to, in order. */
  readonly reported: ReadonlyMap<string, readonly string[]>;
  /** Rows of timers, and of waits for events. */
  readonly timers: number;
  readonly waits: number;
}

/** In the database of one service. */
interface Counts {
  readonly active: number;
  readonly running: number;
  readonly outbox: number;
  readonly parked: number;
  readonly deadLetters: number;
}

const eventTopics = services.map(eventTopic);

export class Observer {
  private readonly kafka: KafkaReader;

  constructor(private readonly system: System) {
    this.kafka = new KafkaReader(system.backends.kafka.url);
  }

  async open(): Promise<void> {
    await this.kafka.connect();
  }

  async close(): Promise<void> {
    await this.kafka.close();
  }

  async progress(): Promise<Progress> {
    const tables = await Promise.all(services.map((service) => this.countsOf(service)));
    const { ready, deadLetters } = await this.queues();
    return {
      ready,
      deadLetters: deadLetters + sum(tables, 'deadLetters'),
      active: sum(tables, 'active'),
      running: sum(tables, 'running'),
      outbox: sum(tables, 'outbox'),
      parked: sum(tables, 'parked'),
      lag: await this.kafka.lag(eventTopics),
    };
  }

  /** Events that are stored in all services. */
  async effects(): Promise<number> {
    const counts = await Promise.all(
      services.map((service) => this.ask<{ n: number }>(service, 'SELECT count(*)::int AS n FROM event')),
    );
    return counts.reduce((total, [row]) => total + (row?.n ?? 0), 0);
  }

  async observe(): Promise<Omit<Observation, keyof Sampled>> {
    const streamsOf = (service: ServiceName) => this.ask<StreamRow>(service, streamsQuery);
    const users = await this.ask<{ id: string; status: string }>(
      'user-service',
      'SELECT user_id AS id, status FROM user_directory',
    );
    const workflows = await this.ask<{ id: string; state: string }>(
      'orchestrator',
      'SELECT workflow_id AS id, state FROM workflow_directory',
    );
    const reports = await this.ask<{ id: string; to: string[] }>('orchestrator', reportsQuery);
    const [left] = await this.ask<{ timers: number; waits: number }>(
      'orchestrator',
      'SELECT (SELECT count(*)::int FROM workflow_timer) AS timers, (SELECT count(*)::int FROM workflow_wait) AS waits',
    );
    const { mails, copies } = this.system.mails;
    return {
      ...(await this.progress()),
      streams: {
        'user-service': await streamsOf('user-service'),
        'email-service': await streamsOf('email-service'),
        orchestrator: await streamsOf('orchestrator'),
      },
      directory: new Map(users.map(({ id, status }) => [id, status])),
      workflows: new Map(workflows.map(({ id, state }) => [id, state])),
      mails: [...mails.values()].map(({ to, messageId }) => ({ to, messageId })),
      mailCopies: copies,
      reported: new Map(reports.map(({ id, to }) => [id, to])),
      ...(left ?? { timers: 0, waits: 0 }),
      records: await this.kafka.readAll(eventTopics),
    };
  }

  private async countsOf(service: ServiceName) {
    const [row] = await this.ask<Counts>(
      service,
      `SELECT (SELECT count(*)::int FROM outbox) AS outbox, (SELECT count(*)::int FROM inbox_parked) + (SELECT count(*)::int FROM dead_letter WHERE status = 'scheduled') AS parked,
              (SELECT count(*)::int FROM dead_letter WHERE status = 'open') AS "deadLetters",
              ${service === 'user-service' ? `(SELECT count(*)::int FROM user_directory WHERE status = 'active')` : 0} AS active,
              ${service === 'orchestrator' ? `(SELECT count(*)::int FROM workflow_directory WHERE state NOT IN ('completed', 'failed'))` : 0} AS running`,
    );
    return row ?? { active: 0, running: 0, outbox: 0, parked: 0, deadLetters: 0 };
  }

  private ask<Row extends object>(service: ServiceName, sql: string): Promise<Row[]> {
    return ask<Row>(this.system.databaseOf(service), sql);
  }

  private async queues(): Promise<{ ready: number; deadLetters: number }> {
    const connection = await connect(this.system.backends.rabbitMq.server.url);
    try {
      const channel = await connection.createChannel();
      const count = async (queue: string) => (await channel.checkQueue(queue)).messageCount;
      let [ready, deadLetters] = [0, 0];
      for (const service of services) {
        ready += await count(commandQueue(service));
        deadLetters += await count(deadLetterQueue(commandQueue(service)));
      }
      return { ready, deadLetters };
    } finally {
      await connection.close();
    }
  }
}

const streamsQuery = `
  SELECT stream_id AS stream, count(*)::int AS events, min(sequence)::int AS first, max(sequence)::int AS last,
         array_agg(type ORDER BY sequence) AS types
    FROM event GROUP BY stream_id`;

const reportsQuery = `
  SELECT data->>'workflowId' AS id, ARRAY(SELECT result->>'to' FROM jsonb_array_elements(data#>'{data,results}') AS result) AS "to"
    FROM event WHERE type = 'workflow.task-requested' AND data->>'command' = 'campaign.complete'`;

const sum = <Key extends string>(rows: readonly Readonly<Record<Key, number>>[], key: Key): number =>
  rows.reduce((total, row) => total + row[key], 0);
