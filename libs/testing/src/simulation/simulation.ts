import {
  admitOnce,
  createMessage,
  deadLetterQueue,
  inTransaction,
  MemoryCommandBroker,
  MemoryEventLog,
  Outbox,
} from '@starter/messaging';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestDataSource } from '../test-data-source.js';
import { Faults } from './faults.js';
import { problemsOf, type Asked, type Effect, type Observation } from './invariants.js';
import { SimulatedProcess } from './simulated-process.js';
import { ordered, Place, queue, reactor, replies, SimulatedService, topic, type Parts } from './simulated-service.js';
import type { World } from './world.js';

export interface SimulationResult {
  readonly problems: readonly string[];
  /** What has gone wrong on purpose. */
  readonly faults: readonly string[];
  readonly crashes: number;
}

const soundParts: Parts = { admit: admitOnce, commands: (transport) => transport, events: (transport) => transport };

/**
 * One run: a random workload through one or two processes of a small service, over faulty memory transports and a real database, until
 * all has come to rest.
 *
 * The same seed means the same workload and, for each message in each place, the same faults. It does not mean the same run: when
 * the database answers, and so which of two processes gets what, is not ours to repeat. A failing seed mostly fails again, and
 * else after some repetitions.
 *
 * @param database has the tables of the messaging and of the service; whatever they hold goes
 * @param planted parts with a bug, to see that it is found
 * @param patienceMs when nothing has moved for so long it never will: the waits of the library are shorter, but grow with the load of the machine
 */
export async function simulate(
  seed: number,
  database: TestDataSource,
  planted: Partial<Parts> = {},
  patienceMs = 30_000,
): Promise<SimulationResult> {
  return new Simulation(seed, database, { ...soundParts, ...planted }, patienceMs).run();
}

class Simulation {
  private readonly faults: Faults;
  private readonly world: World;
  private readonly services = new Set<SimulatedService>();
  private readonly ended: Promise<void>[] = [];
  private starting = 0;
  private crashes = 0;

  constructor(
    seed: number,
    private readonly database: TestDataSource,
    private readonly parts: Parts,
    private readonly patienceMs: number,
  ) {
    this.faults = new Faults(seed);
    this.world = {
      faults: this.faults,
      broker: new MemoryCommandBroker(),
      // A member that is slow to let go of its partitions is left behind.
      log: new MemoryEventLog({ rebalanceDrainMs: 20 }),
      url: database.url,
      leaseMs: 300,
      handOver: this.faults.chance(0.7, 'hand over'),
    };
  }

  async run(): Promise<SimulationResult> {
    await this.clear();
    const processes = this.faults.chance(0.5, 'alone') ? 1 : 2;
    await Promise.all(Array.from({ length: processes }, () => this.startService()));
    const asked = this.randomCommands();
    await this.send(asked);
    const unrest = await this.untilRest();
    for (const service of this.services) this.ended.push(service.stop());
    await Promise.all(this.ended);
    const problems = [...unrest, ...problemsOf(asked, await this.observe())];
    return { problems, faults: this.faults.drawn, crashes: this.crashes };
  }

  private async clear(): Promise<void> {
    await this.database.dataSource.query(`
      TRUNCATE effect, stream, outbox, outbox_relay, inbox, inbox_sequence, inbox_parked, inbox_gap, inbox_discarded,
        inbox_suspect, dead_letter;
      UPDATE outbox_lease SET holder = NULL, expires_at = '-infinity';`);
  }

  private async startService(): Promise<void> {
    this.starting += 1;
    const process = new SimulatedProcess(this.world, () => {
      if (process.over) this.crashes += 1;
      this.services.delete(service);
      const stopped = service.stop();
      this.faults.meanwhile(stopped);
      this.ended.push(stopped, this.startService());
    });
    const service = new SimulatedService(process, this.parts);
    this.services.add(service);
    await service.start();
    this.starting -= 1;
  }

  private randomCommands(): Asked[] {
    const { faults } = this;
    const keys = 1 + faults.below(5, 'keys');
    return Array.from({ length: 10 + faults.below(20, 'commands') }, (_, n) => ({
      id: `command-${n}`,
      key: `key-${faults.below(keys, 'key', n)}`,
      valid: faults.chance(0.9, 'valid', n),
      wantsReply: faults.chance(0.5, 'reply', n),
    }));
  }

  /** By a client that nothing befalls: what it has written is committed. */
  private async send(asked: readonly Asked[]): Promise<void> {
    for (const { id, key, valid, wantsReply } of asked) {
      const replyTo = wantsReply ? { replyTo: { address: replies, subject: id } } : {};
      const fields = { id, type: Place.type, version: 1, source: 'client', subject: key, ...replyTo };
      const message = createMessage({ ...fields, data: { key, amount: valid ? 1 : -1 } });
      // That of a process, so that its relay is woken.
      const [service] = this.services;
      await inTransaction(this.database.dataSource, (tx) =>
        (service?.outbox ?? new Outbox()).add(tx, [{ channel: 'command', address: Place.type, message }]),
      );
      if (this.faults.chance(0.3, 'pause', id)) await sleep(this.faults.below(20, 'pause of', id));
    }
  }

  /** @returns what does not come to rest */
  private async untilRest(): Promise<string[]> {
    let passages = -1;
    let since = performance.now();
    for (;;) {
      const before = this.faults.passages;
      const restless = [...this.busy(), ...(await this.waiting())];
      if (restless.length === 0 && this.busy().length === 0 && this.faults.passages === before) return [];
      if (before !== passages) since = performance.now();
      passages = before;
      if (performance.now() - since > this.patienceMs) return restless.map((what) => `does not come to rest: ${what}`);
      await sleep(25);
    }
  }

  private busy(): string[] {
    const { broker, log } = this.world;
    const inFlight = [...this.services].reduce((sum, { process }) => sum + process.inFlight, 0);
    const records = log.read(topic).length;
    const lagOf = (group: string) => records - log.committed(topic, group).reduce((sum, offset) => sum + offset, 0);
    return Object.entries({
      'processes that start': this.starting,
      'copies under way': this.faults.underWay,
      'commands queued': broker.queue(queue).size,
      'commands among the dead letters of the broker': broker.queue(deadLetterQueue(queue)).size,
      'deliveries in hand': inFlight,
      'records before the ordered consumer': lagOf(ordered),
      'records before the reactor': lagOf(reactor),
    }).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
  }

  private async waiting(): Promise<string[]> {
    const [counts] = await this.database.dataSource.query<Record<string, number>[]>(
      `SELECT (SELECT count(*)::int FROM outbox) AS "rows in the outbox",
              (SELECT count(*)::int FROM inbox_parked) AS "events parked",
              (SELECT count(*)::int FROM inbox_gap) AS "open gaps"`,
    );
    return Object.entries(counts ?? {}).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
  }

  private async observe(): Promise<Observation> {
    const { dataSource } = this.database;
    const { log } = this.world;
    const [inbox] = await dataSource.query<{ rows: number }[]>('SELECT count(*)::int AS rows FROM inbox');
    const refused = await dataSource.query<{ id: string }[]>('SELECT message_id AS id FROM inbox_discarded');
    const letters = await dataSource.query<{ id: string }[]>(`SELECT id FROM dead_letters WHERE status <> 'discarded'`);
    return {
      effects: await dataSource.query<Effect[]>('SELECT handler, message, key FROM effect ORDER BY id'),
      discarded: refused.map(({ id }) => id),
      deadLetters: letters.map(({ id }) => id),
      inboxRows: inbox?.rows ?? 0,
      log: log.read(topic).map(({ headers, key }) => `${String(key)}#${String(headers['ce_sequence'])}`),
    };
  }
}
