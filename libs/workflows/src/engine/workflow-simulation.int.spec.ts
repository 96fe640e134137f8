import { defineCommand, workflowReplies } from '@starter/contracts';
import { ActorModule, ActorRuntime, CommandFailed, CommandSucceeded } from '@starter/event-sourcing';
import {
  commandsExchange,
  CreateMessagingTables1760000000001,
  deadLetterQueue,
  done,
  MemoryCommandBroker,
  MemoryCommandTransport,
  MemoryEventLog,
  Messaging,
  replyFor,
  retry,
  silentLogger,
  toMessage,
  type CommandTransport,
  type Message,
  type Outcome,
} from '@starter/messaging';
import {
  eventually,
  Faults,
  openTestDataSource,
  SimulatedProcess,
  type TestDataSource,
  type World,
} from '@starter/testing';
import { z } from 'zod';
import { orchestrator } from '@starter/orchestrator';
import { projections } from '../workflows.module.js';
import { chain, fixed, group, task, workflow } from '../definition/builder.js';
import { TimerPoller } from '../timers/timer-poller.js';
import { startOf } from '../workflow-registry.js';
import { derivedId, requestIdOf } from './derived-id.js';
import { workflowInstance } from './workflow.decider.js';

/** As of the simulation in `libs/testing`: `SIMULATION_SEEDS=100` tries more, `SIMULATION_SEED=n` replays one. */
const replayed = process.env['SIMULATION_SEED'];
const runs = Number(process.env['SIMULATION_SEEDS'] ?? (replayed === undefined ? 5 : 1));
const firstSeed = Number(replayed ?? Date.now() % 1_000_000_000);

const contract = { version: 1, owner: 'worker', schema: z.object({ step: z.string() }) } as const;
const Do = defineCommand('sim.do', contract);
const Undo = defineCommand('sim.undo', contract);
const step = (name: string) => task(Do, { step: name }).compensateWith(task(Undo, { step: name }));
const wait = { backoff: fixed('20ms') };
const simulated = workflow('simulated', { input: z.object({}) }, () =>
  chain(
    step('first').retry({ attempts: 3, ...wait }),
    group(step('left'), step('right')).waitAll(),
    step('last').retry({ attempts: 2, ...wait }),
  ),
);

interface Fate {
  readonly state: string;
  /** Ids of the requests that are made, whatever their order. */
  readonly requests: readonly string[];
  /** Ids of those that undo: those of a step of the chain after those of the steps behind it, in any order among themselves. */
  readonly undone: readonly ReadonlySet<string>[];
}

/** What must become of a workflow: the model. */
function fateOf(workflowId: string, succeeds: (requestId: string) => boolean): Fate {
  const requests: string[] = [];
  const begun: string[] = [];
  const run = (path: string, attempts = 1): boolean => {
    begun.push(path);
    for (let attempt = 1; attempt <= attempts; attempt += 1) {
      const id = requestIdOf(workflowId, path, 'run', attempt);
      requests.push(id);
      if (succeeds(id)) return true;
    }
    return false;
  };
  const completed = run('0.0', 3) && [run('0.1.0'), run('0.1.1')].every((succeeded) => succeeded) && run('0.2', 2);
  if (completed) return { state: 'completed', requests, undone: [] };
  const undo = (path: string) => requestIdOf(workflowId, path, 'compensate', 1);
  const undone = ['0.2', '0.1', '0.0'].map((step) => new Set(begun.filter((path) => path.startsWith(step)).map(undo)));
  return { state: 'failed', requests: [...requests, ...begun.map(undo)], undone };
}

let database: TestDataSource;
beforeEach(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, ...orchestrator.migrations]);
});
afterEach(() => database.close());

/** A process of the orchestrator, without HTTP. */
async function startOrchestrator({ dataSource, commands, events, world }: SimulatedProcess) {
  const messaging = new Messaging({
    ...{ service: 'orchestrator', dataSource, commands, events, logger: silentLogger, partitions: 3 },
    ...{ leaseMs: world.leaseMs, drainMs: 500, failurePolicy: { backoff: { baseMs: 5 } } },
  });
  const runtime = new ActorRuntime(messaging);
  const timers = new TimerPoller(messaging, { everyMs: 50 });
  const addresses = { [CommandSucceeded.type]: workflowReplies, [CommandFailed.type]: workflowReplies };
  const feature = { actors: [workflowInstance], inlineProjections: projections.inline, addresses };
  new ActorModule(feature, messaging, runtime).onModuleInit();
  await dataSource.initialize();
  await messaging.onApplicationBootstrap();
  timers.onApplicationBootstrap();
  return async () => {
    await timers.onModuleDestroy();
    await messaging.beforeApplicationShutdown();
    await runtime.close();
  };
}

/** A process that does what workflows ask for, and answers the same whenever it is asked the same. */
async function startWorker(
  { commands }: SimulatedProcess,
  work: (commands: CommandTransport, request: Message) => Promise<Outcome>,
) {
  const queue = 'worker.commands';
  await commands.declare({
    exchanges: [{ name: commandsExchange, type: 'direct' }],
    queues: [{ name: queue }],
    bindings: [Do, Undo].map(({ type }) => ({ exchange: commandsExchange, queue, routingKey: type })),
  });
  const consumer = await commands.consume(queue, ({ message }) => work(commands, message));
  return () => consumer.close(500);
}

/** Starts a process, and another one whenever it has crashed or was told to stop. */
class Supervisor {
  private readonly stopping: Promise<void>[] = [];
  private readonly running = new Set<() => Promise<void>>();

  constructor(private readonly world: World) {}

  async start(begin: (process: SimulatedProcess) => Promise<() => Promise<void>>): Promise<void> {
    const process: SimulatedProcess = new SimulatedProcess(this.world, () => {
      this.running.delete(stop);
      this.stopping.push(stop(), this.start(begin));
    });
    const beginning = Promise.resolve().then(() => begin(process));
    const stop = async (): Promise<void> => {
      // It may have crashed before it had begun.
      const end = await beginning.catch(() => undefined);
      await end?.();
      await process.close();
    };
    this.running.add(stop);
    await beginning.catch((error: unknown) => {
      if (!process.over) throw error;
    });
  }

  async stop(): Promise<void> {
    await Promise.all([...this.stopping, ...[...this.running].map((stop) => stop())]);
  }
}

async function simulate(seed: number): Promise<void> {
  const faults = new Faults(seed);
  const broker = new MemoryCommandBroker();
  const log = new MemoryEventLog({ rebalanceDrainMs: 20 });
  const world: World = { faults, broker, log, url: database.url, leaseMs: 300, handOver: true };
  const succeeds = (requestId: string): boolean => faults.chance(0.75, 'succeeds', requestId);
  const asked: Message[] = [];
  const work = async (commands: CommandTransport, request: Message): Promise<Outcome> => {
    asked.push(request);
    const well = request.type === Undo.type || succeeds(request.id);
    const reply = replyFor(request, well ? { result: null } : { failure: 'as drawn' }, 'worker');
    if (!reply) return done;
    return commands.send(reply, { routingKey: workflowReplies }).then(
      () => done,
      () => retry(0, 'the answer was not sent'),
    );
  };
  const supervisor = new Supervisor(world);
  await Promise.all([
    supervisor.start(startOrchestrator),
    supervisor.start(startOrchestrator),
    supervisor.start((process) => startWorker(process, work)),
  ]);
  const ids = Array.from({ length: 4 }, (_, n) => derivedId('simulated', seed, n));
  const client = new MemoryCommandTransport(broker);
  for (const id of ids) await client.send(toMessage(startOf(simulated, id, {}), { id, source: 'client' }));

  const fates = new Map(ids.map((id) => [id, fateOf(id, succeeds)]));
  const expectFates = async () => {
    const rows = await database.dataSource.query<{ id: string; state: string }[]>(
      'SELECT workflow_id AS id, state FROM workflow_directory',
    );
    const states = new Map(rows.map(({ id, state }) => [id, state]));
    expect(states).toEqual(new Map([...fates].map(([id, { state }]) => [id, state])));
    expect(await database.dataSource.query('SELECT * FROM outbox')).toEqual([]);
  };
  try {
    await eventually(expectFates, { timeoutMs: 40_000 });
    await supervisor.stop();
    await expectFates();
    const firstAsked = [...new Map(asked.map((request) => [request.id, request])).values()];
    for (const { requests, undone } of fates.values()) {
      const own = new Set(requests);
      const seen = firstAsked.filter(({ id }) => own.has(id));
      expect(seen.map(({ id }) => id).sort()).toEqual([...requests].sort());
      const undoing = seen.filter(({ type }) => type === Undo.type).map(({ id }) => id);
      for (const step of undone) expect(new Set(undoing.splice(0, step.size))).toEqual(step);
    }
    expect(firstAsked).toHaveLength([...fates.values()].flatMap(({ requests }) => requests).length);
    expect(broker.messages(deadLetterQueue('orchestrator.commands'))).toEqual([]);
    expect(await database.dataSource.query('SELECT * FROM dead_letters')).toEqual([]);
    expect(await database.dataSource.query('SELECT * FROM workflow_timer')).toEqual([]);
    await expectLogInOrder(log);
  } catch (error) {
    const replay = `seed ${seed}: replay it with SIMULATION_SEED=${seed} SIMULATION_SEEDS=20 npm test -- simulation`;
    throw new Error([replay, String(error), 'the faults were', ...faults.drawn].join('\n  '), { cause: error });
  } finally {
    await supervisor.stop();
  }
}

/** Second copies aside, each stream lies in the log as it is stored. */
async function expectLogInOrder(log: MemoryEventLog): Promise<void> {
  const stored = await database.dataSource.query<{ name: string }[]>(
    `SELECT stream_id || '#' || sequence AS name FROM event ORDER BY stream_id, sequence`,
  );
  const records = log
    .read('orchestrator.events')
    .map(({ key, headers }) => `${String(key)}#${String(headers['ce_sequence'])}`);
  const streams = [...new Set(stored.map(({ name }) => name.split('#')[0]))];
  const ofStream = (names: readonly string[], stream?: string) => names.filter((name) => name.startsWith(`${stream}#`));
  const published = streams.flatMap((stream) => ofStream([...new Set(records)], stream));
  expect(published).toEqual(
    streams.flatMap((stream) =>
      ofStream(
        stored.map(({ name }) => name),
        stream,
      ),
    ),
  );
}

it.each(Array.from({ length: runs }, (_, run) => (replayed === undefined ? firstSeed + run : firstSeed)))(
  'ends every workflow as its answers say, whatever is dropped, doubled, delayed or crashes (seed %i)',
  simulate,
  120_000,
);
