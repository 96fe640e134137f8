import { CancelWorkflow, defineCommand, TimerFired, UnstickWorkflow } from '@starter/contracts';
import { ActorModule, ActorRuntime, CommandFailed, CommandSucceeded, rebuildProjection } from '@starter/event-sourcing';
import {
  CreateMessagingTables1760000000001,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  silentLogger,
  toMessage,
  type Draft,
} from '@starter/messaging';
import { openTestDataSource, seededRandom, type TestDataSource } from '@starter/testing';
import { z } from 'zod';
import { orchestrator } from '@starter/orchestrator';
import { projections } from './workflows.module.js';
import { chain, fixed, group, sleep, task, workflow } from './definition/builder.js';
import type { NodeDraft } from './definition/node-draft.js';
import { derivedId } from './engine/derived-id.js';
import { timerIdOf } from './engine/timers.js';
import { workflowInstance } from './engine/workflow.decider.js';
import type { StartedWorkflow } from './engine/workflow.state.js';
import { startOf } from './workflow-registry.js';

/** `DIRECTORY_RUNS=1000` tries more. */
const runs = Number(process.env['DIRECTORY_RUNS'] ?? 150);
const random = seededRandom();
const chance = (probability: number): boolean => random() < probability;
const below = (limit: number): number => Math.floor(random() * limit);
const one = <T>(items: readonly T[]): T | undefined => items[below(items.length)];

const Do = defineCommand('directory.do', { version: 1, owner: 'worker', schema: z.object({}) });
const Undo = defineCommand('directory.undo', { version: 1, owner: 'worker', schema: z.object({}) });

function randomDraft(depth: number): NodeDraft {
  const parts = () => Array.from({ length: 1 + below(3) }, () => randomDraft(depth - 1));
  const plain = (): NodeDraft => {
    if (depth === 0 || chance(0.3)) {
      const done = task(Do, {}).retry({ attempts: 1 + below(2), backoff: fixed('0s') });
      return chance(0.3) ? done.timeout('10s') : done;
    }
    if (chance(0.1)) return sleep('1m') as NodeDraft;
    if (chance(0.3)) return randomDraft(depth - 1).orElse(randomDraft(depth - 1));
    if (chance(0.5)) return chain(...parts());
    return chance(0.5) ? group(...parts()) : group(...parts()).minSuccess(1);
  };
  return chance(0.5) ? plain().compensateWith(task(Undo, {})) : plain();
}

let database: TestDataSource;
let runtime: ActorRuntime;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, ...orchestrator.migrations]);
  const messaging = new Messaging({
    ...{ service: 'orchestrator', dataSource: database.dataSource, partitions: 1, logger: silentLogger },
    ...{ commands: new MemoryCommandTransport(), events: new MemoryEventTransport() },
  });
  runtime = new ActorRuntime(messaging);
  const feature = { actors: [workflowInstance], inlineProjections: projections.inline };
  new ActorModule(feature, messaging, runtime).onModuleInit();
});
afterAll(async () => {
  await runtime?.close();
  await database?.close();
});

const execute = (id: string, draft: Draft) => {
  const message = toMessage(draft, { source: 'spec', subject: id });
  return runtime.execute(workflowInstance, { id, command: { data: draft.data, message } });
};

const rows = `SELECT workflow_id AS id, name, state, started_at AS "startedAt", ended_at AS "endedAt",
                     oldest_request_at AS "oldestRequestAt" FROM workflow_directory`;
const rowOf = async (id: string) =>
  (await database.dataSource.query<object[]>(`${rows} WHERE workflow_id = $1`, [id]))[0];

/** What the row has to be, from all that is in the state. */
function expectedRow({ workflowId: id, workflow: name, status, startedAt, endedAt, requests }: StartedWorkflow) {
  const open = [...requests.values()].filter(({ state, revoked }) => state === 'requested' && !revoked);
  const oldest = Math.min(...open.map(({ requestedAt }) => requestedAt));
  const isOver = status === 'completed' || status === 'failed';
  expect(endedAt !== undefined).toBe(isOver);
  return {
    ...{ id, name, state: status, startedAt: new Date(startedAt) },
    endedAt: endedAt === undefined ? null : new Date(endedAt),
    oldestRequestAt: isOver || open.length === 0 ? null : new Date(Math.floor(oldest / 60_000) * 60_000),
  };
}

/** Anything that may come next, late and repeated answers among it. */
function randomCommand(workflowId: string, state: StartedWorkflow): Draft {
  const { requests, waiting, compensations } = state;
  const stuckAt = one([...compensations.stuck]);
  if (stuckAt !== undefined && chance(0.3)) {
    const remedy = one(['retry', 'skip', 'resume'] as const) ?? 'skip';
    return UnstickWorkflow.of({ workflowId, path: stuckAt, remedy });
  }
  if (chance(0.03)) return CancelWorkflow.of({ workflowId, reason: 'drawn' });
  const sleeping = one([...waiting]);
  if (sleeping !== undefined && chance(0.3)) {
    return TimerFired.of({ workflowId, timerId: timerIdOf({ kind: 'sleep', path: sleeping }) });
  }
  const request =
    one([...requests.values()].filter(({ state }) => state !== 'succeeded')) ?? one([...requests.values()]);
  if (!request) return CancelWorkflow.of({ workflowId, reason: 'nothing was asked for' });
  const { requestId, path, purpose, attempt } = request;
  if (chance(0.2)) {
    return TimerFired.of({ workflowId, timerId: timerIdOf({ kind: 'timeout', path, purpose, attempt }) });
  }
  return chance(purpose === 'run' ? 0.6 : 0.4)
    ? { definition: CommandSucceeded, data: { requestId, result: null } }
    : { definition: CommandFailed, data: { requestId, reason: 'drawn' } };
}

it('says of every workflow what its state says, after every decision, and after a rebuild', async () => {
  const seen = new Set<string>();
  for (let run = 0; run < runs; run += 1) {
    const id = derivedId('directory', run, below(1e9));
    const tree = workflow('random', { input: z.object({}) }, () => randomDraft(3));
    await execute(id, startOf(tree, id, {}));
    let after = 0;
    for (let step = 0; step < 60 && after < 6; step += 1) {
      const { state } = await runtime.read(workflowInstance, id);
      const started = state as StartedWorkflow;
      seen.add(started.status);
      expect(await rowOf(id)).toEqual(expectedRow(started));
      // What comes late may still undo something.
      if (started.endedAt !== undefined) after += 1;
      await execute(id, randomCommand(id, started));
    }
  }
  expect([...seen].sort()).toEqual(['compensating', 'completed', 'failed', 'running', 'stuck']);
  const { dataSource } = database;
  const ordered = `${rows} ORDER BY workflow_id`;
  const live = await dataSource.query<object[]>(ordered);
  await dataSource.query(`UPDATE workflow_directory SET state = 'running', ended_at = now()`);
  await dataSource.query('DELETE FROM workflow_directory WHERE workflow_id = $1', [(live[0] as { id: string }).id]);
  const projection = projections.inline.find(({ name }) => name === 'workflow-directory');
  if (!projection) throw new Error('there is no workflow-directory');
  await rebuildProjection({ dataSource, projection });
  expect(await dataSource.query(ordered)).toEqual(live);
}, 120_000);
