import {
  DeliverEvent,
  defineCommand,
  defineEvent,
  EventAwaited,
  EventExpected,
  NodeEnded,
  ResolveRequest,
  StartWorkflow,
  TaskFailed,
  TaskRequested,
  TaskRevoked,
  TaskSucceeded,
  TimerFired,
  TimerSet,
  UnstickWorkflow,
  WorkflowStuck,
  WorkflowUnstuck,
  type DataOf,
} from '@starter/contracts';
import {
  CommandFailed,
  CommandSucceeded,
  decide,
  evolve,
  isRejection,
  type RecordedEvent,
} from '@starter/event-sourcing';
import { createMessage, type Draft } from '@starter/messaging';
import { seededRandom } from '@starter/testing';
import { z } from 'zod';
import * as write from '../definition/builder.js';
import type { Json, WorkflowNode } from '../definition/definition.js';
import { defaultLimits } from '../definition/limits.js';
import { nodesOf } from '../definition/node-path.js';
import type { GroupDraft, NodeDraft } from '../definition/node-draft.js';
import type { Ref } from '../definition/typed-reference.js';
import { timerOf } from './timers.js';
import { workflowActor, workflowInstance } from './workflow.decider.js';
import { workflowSnapshots } from './workflow.snapshot.js';
import type { StartedWorkflow, WorkflowState } from './workflow.state.js';

/** `MODEL_TREES=10000 npm test -- random-workflows` tries more. */
const trees = Number(process.env['MODEL_TREES'] ?? 1_000);
const depthAtMost = 5;
const tinyPart = { events: 3, bytes: 4_000_000 };
const workflowId = '01980000-0000-7000-8000-000000000001';
const random = seededRandom();
const chance = (probability: number): boolean => random() < probability;
const below = (limit: number): number => Math.floor(random() * limit);

const Do = defineCommand('model.do', { version: 1, owner: 'model', schema: z.object({ with: z.json() }) });
const Undo = defineCommand('model.undo', { version: 1, owner: 'model', schema: z.object({}) });
const Happened = defineEvent('model.happened', {
  version: 1,
  owner: 'model',
  schema: z.object({ n: z.number(), tag: z.number(), items: z.json() }),
});
const input = { n: 1, list: ['a', 'b', 'c'] };
const inputSchema = z.object({ n: z.number(), list: z.array(z.string()) });

/** A tree as the model sees it. */
type Tree = { readonly undo: boolean } & (
  | {
      readonly kind: 'task';
      readonly attempts: number;
      readonly patient: boolean;
      readonly wait: boolean;
      readonly limited: boolean;
    }
  | { readonly kind: 'sleep' }
  /** No other has the tag: every wait has an event of its own. */
  | { readonly kind: 'event'; readonly tag: number }
  | { readonly kind: 'chain'; readonly parts: readonly Tree[] }
  | { readonly kind: 'group'; readonly parts: readonly Tree[]; readonly policy: Policy }
  | { readonly kind: 'forEach'; readonly part: Tree; readonly policy: Policy }
  | { readonly kind: 'when'; readonly holds: boolean; readonly parts: readonly Tree[] }
  | { readonly kind: 'orElse'; readonly parts: readonly [Tree, Tree] }
  | { readonly kind: 'sub'; readonly part: Tree }
);
type Policy = 'failFast' | 'waitAll' | number;

function randomTree(depth: number): Tree {
  const undo = chance(0.4);
  const part = () => randomTree(depth - 1);
  const parts = () => Array.from({ length: below(4) }, part);
  const policy = (): Policy => (chance(0.4) ? 'failFast' : chance(0.5) ? 'waitAll' : below(3));
  const choice = depth === 0 ? 0 : depth === depthAtMost ? 0.4 + 0.6 * random() : random();
  if (choice < 0.35)
    return {
      kind: 'task',
      undo,
      attempts: 1 + below(3),
      patient: chance(0.6),
      wait: chance(0.5),
      limited: chance(0.3),
    };
  if (choice < 0.4) return chance(0.5) ? { kind: 'sleep', undo } : { kind: 'event', undo, tag: below(2 ** 40) };
  if (choice < 0.6) return { kind: 'chain', undo, parts: parts() };
  if (choice < 0.75) {
    const members = parts();
    const wanted = policy();
    return {
      kind: 'group',
      undo,
      parts: members,
      policy: typeof wanted === 'number' ? Math.min(wanted, members.length) : wanted,
    };
  }
  if (choice < 0.83) return { kind: 'forEach', undo, part: part(), policy: policy() };
  if (choice < 0.9)
    return { kind: 'when', undo, holds: chance(0.5), parts: [part(), ...(chance(0.5) ? [part()] : [])] };
  if (choice < 0.96) return { kind: 'orElse', undo: false, parts: [part(), part()] };
  return { kind: 'sub', undo, part: part() };
}

/** What nodes refer to: what a task is done with, and the items of every forEach around it. */
interface Known {
  readonly given: Ref<Json>;
  readonly items: readonly Ref<Json>[];
}

/** The same tree as a developer writes it. */
function written(tree: Tree, known: Known): NodeDraft {
  const draft = writtenPlain(tree, known);
  return tree.undo
    ? draft.compensateWith(write.task(Undo, {}).retry({ attempts: 2, backoff: write.fixed('1s') }))
    : draft;
}

function writtenPlain(tree: Tree, known: Known): NodeDraft {
  const { given, items } = known;
  switch (tree.kind) {
    case 'task': {
      const plain = write
        .task(Do, { with: given })
        .retry({ attempts: tree.attempts, ...(tree.wait ? { backoff: write.exponential('1s') } : {}) });
      const task = tree.limited ? plain.rateLimit('2/m') : plain;
      return tree.patient ? task : task.timeout('10s');
    }
    case 'sleep':
      return write.sleep('1m') as NodeDraft;
    case 'event':
      return write.waitForEvent(Happened, {
        match: { tag: tree.tag, items: items as never },
        timeout: '1h',
      }) as NodeDraft;
    case 'chain': {
      const steps: NodeDraft[] = [];
      for (const part of tree.parts) {
        steps.push(written(part, { given: (steps.at(-1)?.result() as Ref<Json>) ?? given, items }));
      }
      return (write.chain as (...all: NodeDraft[]) => NodeDraft)(...steps);
    }
    case 'group':
      return withPolicy(write.group(...tree.parts.map((part) => written(part, known))), tree.policy);
    case 'forEach': {
      const list = ['a', 'b', 'c'] as unknown as Ref<readonly string[]>;
      return withPolicy(
        write.forEach(list, (item) => written(tree.part, { given: item, items: [...items, item as Ref<Json>] })),
        tree.policy,
      );
    }
    case 'when': {
      const [then, otherwise] = tree.parts.map((part) => written(part, known)) as [NodeDraft, NodeDraft?];
      const condition = write.any(
        write.equals(tree.holds ? given : ('never' as never), given),
        write.all(write.lessThan(2, 1)),
      );
      return otherwise ? write.when(condition, then, otherwise) : write.when(condition, then);
    }
    case 'orElse':
      return written(tree.parts[0], known).orElse(written(tree.parts[1], known));
    case 'sub': {
      const sub = write.workflow('sub', { input: z.object({ given: z.json(), items: z.json() }) }, (own) =>
        written(tree.part, { given: own.given, items: [own.items] }),
      );
      return write.subWorkflow(sub, { given, items: items as never }) as NodeDraft;
    }
  }
}

function withPolicy(group: GroupDraft, policy: Policy): NodeDraft {
  if (policy === 'failFast') return group;
  return policy === 'waitAll' ? group.waitAll() : group.minSuccess(policy);
}

/** What the world does with a request is fixed by its path, so that the model and the world agree. */
class Fate {
  private readonly salt = below(2 ** 30);

  constructor(private readonly failureRate: number) {}

  of(...what: readonly (string | number)[]): number {
    let hash = this.salt;
    for (const character of what.join('/'))
      hash = Math.imul(hash ^ character.charCodeAt(0), 0x9e3779b1) ^ (hash >>> 15);
    return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
  }

  /** `silent`: nobody answers before the time is over. */
  attempt(path: string, attempt: number, patient: boolean): 'done' | 'failed' | 'silent' {
    const dice = this.of(path, attempt);
    if (dice > this.failureRate) return 'done';
    return !patient && dice < this.failureRate / 2 ? 'silent' : 'failed';
  }

  arrives = (path: string): boolean => this.of(path, 'event') > this.failureRate;
  undoes = (path: string, attempt: number): boolean => this.of(path, attempt, 'undo') > this.failureRate / 2;
  result = (path: string, given: unknown): string => this.of(path, JSON.stringify(given)).toString(36);
}

/** The reference: what becomes of a tree, without time, messages and state. Notes the parts that failed on their own. */
class Model {
  readonly failed = new Set<string>();

  constructor(private readonly fate: Fate) {}

  /** undefined when it fails */
  run(tree: Tree, path: string, given: Json): Json | undefined {
    const at = (index: number) => `${path}.${index}`;
    switch (tree.kind) {
      case 'task':
        for (let attempt = 1; attempt <= tree.attempts; attempt += 1) {
          if (this.fate.attempt(path, attempt, tree.patient) === 'done') return this.fate.result(path, given);
        }
        return undefined;
      case 'sleep':
        return null;
      case 'event':
        return this.fate.arrives(path) ? { n: this.fate.of(path) } : undefined;
      case 'chain': {
        if (tree.parts.length === 0) return null;
        let result: Json | undefined = given;
        for (const [index, part] of tree.parts.entries()) {
          result = this.run(part, at(index), result);
          if (result === undefined) return undefined;
        }
        return result;
      }
      case 'group':
        return this.all(
          tree.policy,
          tree.parts.map((part, index) => this.run(part, at(index), given)),
          path,
        );
      case 'forEach':
        return this.all(
          tree.policy,
          input.list.map((item, index) => this.run(tree.part, at(index), item)),
          path,
        );
      case 'when': {
        const [then, otherwise] = tree.parts as [Tree, Tree?];
        if (tree.holds) return this.run(then, at(0), given);
        return otherwise ? this.run(otherwise, at(1), given) : null;
      }
      case 'orElse': {
        const result = this.run(tree.parts[0], at(0), given);
        if (result !== undefined) return result;
        this.failed.add(at(0));
        return this.run(tree.parts[1], at(1), given);
      }
      case 'sub':
        return this.run(tree.part, at(0), given);
    }
  }

  private all(policy: Policy, results: readonly (Json | undefined)[], path: string): Json | undefined {
    const failures = results.flatMap((result, index) => (result === undefined ? [`${path}.${index}`] : []));
    if (typeof policy === 'number') failures.forEach((failure) => this.failed.add(failure));
    const tolerated = typeof policy === 'number' ? results.length - policy : 0;
    return failures.length > tolerated ? undefined : results.map((result) => result ?? null);
  }
}

/** A workflow in a world that answers late, twice and in any order, and whose processes die between any two messages. */
class World {
  state: WorkflowState = workflowInstance.initialState;
  readonly events: RecordedEvent[] = [];
  /** Numbers of events after which a decision ended. */
  readonly ends = new Set<number>();
  /** Whether next to nothing fits in one transaction. */
  readonly inParts = chance(0.3);
  private readonly actor = this.inParts ? workflowActor({ ...defaultLimits, part: tinyPart }) : workflowInstance;
  /** On the way; which arrives next is chance. */
  private pending: Draft[] = [];
  /** What comes when all is over, and changes nothing. */
  readonly stale: Draft[] = [];
  private readonly silent = new Map<string, string[]>();
  private readonly happened = new Set<string>();

  constructor(
    private readonly fate: Fate,
    /** Place of the wait with a tag, where there is but one. */
    private readonly placeOf: (tag: number) => string | undefined,
    private readonly patience: (path: string) => boolean,
  ) {}

  start(definition: Json): void {
    this.deliver(StartWorkflow.of({ workflowId, workflow: 'random', definition, input }));
    while (this.pending.length > 0) {
      const [next] = this.pending.splice(below(this.pending.length), 1);
      this.deliver(next as Draft);
      if (chance(0.2)) this.deliver(next as Draft);
    }
  }

  deliver(draft: Draft): void {
    // A process that starts in the middle knows only the log.
    if (chance(0.1)) this.state = this.replayed();
    else if (chance(0.1)) this.state = fromSnapshot(this.state);
    const { type, version } = draft.definition;
    const message = createMessage({ type, version, source: 'model', subject: workflowId, data: draft.data });
    const decision = decide(this.actor, { data: draft.data, message }, this.state);
    if (isRejection(decision)) {
      // An operator who asks twice is told that it is not stuck there any more.
      if (type === UnstickWorkflow.type || type === ResolveRequest.type) return;
      throw new Error(`${type}: ${decision.rejected}`);
    }
    for (const event of decision) this.record(event);
    if (!this.inParts) this.ends.add(this.events.length);
  }

  replayed(): WorkflowState {
    return this.events.reduce<WorkflowState>(fold, workflowInstance.initialState);
  }

  private record({ definition: { type }, data }: Draft): void {
    const event: RecordedEvent = { type, data, sequence: this.events.length + 1, time: new Date(0) };
    this.events.push(event);
    this.state = fold(this.state, event);
    if (type === TaskRequested.type) this.answer(data as DataOf<typeof TaskRequested>);
    if (type === TaskFailed.type) this.answerLate(data as DataOf<typeof TaskFailed>);
    if (type === TaskFailed.type && chance(0.2)) this.resolve(data as DataOf<typeof TaskFailed>);
    if (type === EventExpected.type) this.happenEarly(data as DataOf<typeof EventExpected>);
    if (type === EventAwaited.type) this.happen(data as DataOf<typeof EventAwaited>);
    if (type === TimerSet.type) this.setTimer(data as DataOf<typeof TimerSet>);
    if (type === WorkflowStuck.type) {
      const { stuck } = (this.state as StartedWorkflow).compensations;
      const path = [...stuck][below(stuck.size)] ?? (data as DataOf<typeof WorkflowStuck>).path;
      const remedy = (['retry', 'skip', 'resume'] as const)[below(3)] ?? 'skip';
      this.pending.push(UnstickWorkflow.of({ workflowId, path, remedy }));
    }
  }

  /** An operator has seen that a compensation failed, while others may still be under way. */
  private resolve({ requestId, purpose, retried }: DataOf<typeof TaskFailed>): void {
    if (purpose === 'run' || retried) return;
    const remedy = (['retry', 'skip', 'succeed'] as const)[below(3)] ?? 'skip';
    this.pending.push(ResolveRequest.of({ workflowId, requestId, remedy }));
  }

  private answer({ requestId, path, purpose, attempt, data }: DataOf<typeof TaskRequested>): void {
    const result = purpose === 'run' ? this.fate.result(path, (data as { with: Json }).with) : null;
    const success: Draft = { definition: CommandSucceeded, data: { requestId, result } };
    const failure: Draft = { definition: CommandFailed, data: { requestId, reason: 'chance' } };
    const done = this.fate.undoes(path, attempt) ? 'done' : 'failed';
    const fate = purpose === 'run' ? this.fate.attempt(path, attempt, this.patience(path)) : done;
    if (fate === 'silent') this.silent.set(path, [...(this.silent.get(path) ?? []), requestId]);
    else this.pending.push(fate === 'done' ? success : failure);
    if (fate === 'done' && chance(0.1)) this.stale.push(success, failure);
  }

  /** Once a task has failed for good, what had been silent may turn out to have happened. */
  private answerLate({ path, purpose, retried }: DataOf<typeof TaskFailed>): void {
    if (purpose === 'compensate' || retried) return;
    for (const requestId of this.silent.get(path) ?? []) {
      if (chance(0.5)) this.pending.push({ definition: CommandSucceeded, data: { requestId, result: 'late' } });
    }
    this.silent.delete(path);
  }

  /** Before anybody waits for it, or in the very moment. */
  private happenEarly({ correlation, match }: DataOf<typeof EventExpected>): void {
    const path = this.placeOf(match['tag'] as number);
    if (path !== undefined && chance(0.5)) this.happen({ path, correlation });
  }

  private happen({ path, correlation }: Pick<DataOf<typeof EventAwaited>, 'path' | 'correlation'>): void {
    if (!this.fate.arrives(path) || this.happened.has(path)) return;
    this.happened.add(path);
    this.pending.push(DeliverEvent.of({ workflowId, correlation, data: { n: this.fate.of(path) } }));
  }

  private setTimer({ timerId }: DataOf<typeof TimerSet>): void {
    const timer = timerOf(timerId);
    if (!timer) throw new Error(`${timerId} is no timer`);
    const fired = TimerFired.of({ workflowId, timerId });
    const answered =
      (timer.kind === 'timeout' && this.fate.attempt(timer.path, timer.attempt, false) !== 'silent') ||
      (timer.kind === 'deadline' && this.fate.arrives(timer.path));
    (answered ? this.stale : this.pending).push(fired);
  }
}

const fromSnapshot = (state: WorkflowState): WorkflowState => {
  const json = JSON.stringify(z.encode(workflowSnapshots.schema, state));
  return z.decode(workflowSnapshots.schema, JSON.parse(json));
};

const fold = (state: WorkflowState, event: RecordedEvent): WorkflowState => evolve(workflowInstance, state, event);
const isAbove = (above: string, path: string): boolean => path === above || path.startsWith(`${above}.`);

/** The tree at a path, whichever item of a forEach it is. */
function treeAt(tree: Tree, path: string): Tree {
  return path
    .split('.')
    .slice(1)
    .reduce((at, index) => ('part' in at ? at.part : 'parts' in at ? (at.parts[Number(index)] as Tree) : at), tree);
}

/** Of those that stand in no forEach, by tag. */
function placesOfWaits(definition: WorkflowNode): Map<number, string> {
  const waits = [...nodesOf(definition)].flatMap(({ path, node }) =>
    node.kind === 'waitForEvent' && !path.includes('*') ? [[node.match['tag'] as number, path] as const] : [],
  );
  return new Map(waits);
}

interface Entry extends DataOf<typeof TaskRequested> {
  readonly index: number;
}

/** Undone is everything that was begun in what failed, and nothing else; what came late, after that. */
function checkCompensations(tree: Tree, failed: ReadonlySet<string>, events: readonly RecordedEvent[]): void {
  const entries = events.flatMap(({ type, data }, index) =>
    type === TaskRequested.type ? [{ ...(data as DataOf<typeof TaskRequested>), index } satisfies Entry] : [],
  );
  const begun = new Set<string>();
  for (const { path, purpose } of entries) {
    if (purpose === 'compensate') continue;
    for (const place of placesDownTo(path)) if (treeAt(tree, place).undo) begun.add(place);
  }
  const expected = [...begun].filter((path) => [...failed].some((scope) => isAbove(scope, path)));
  const undone = entries.filter(({ purpose }) => purpose === 'compensate');
  expect([...new Set(undone.map(({ path }) => path))].sort()).toEqual(expected.sort());
  const lates = events.flatMap(({ type, data }, index) => {
    const { path, late } = data as DataOf<typeof TaskSucceeded>;
    return type === TaskSucceeded.type && late ? [{ path, index }] : [];
  });
  for (const late of lates) {
    for (const path of expected.filter((each) => isAbove(each, late.path))) {
      if (undone.some((entry) => entry.path === path && entry.index > late.index)) continue;
      throw new Error(`${path} was not undone again after ${late.path} had succeeded late`);
    }
  }
}

/** Whether one is undone before the other: it is inside that, or in a later step of the same chain. */
function comesBefore(tree: Tree, one: string, other: string): boolean {
  if (one === other) return false;
  const [steps, others] = [one.split('.'), other.split('.')];
  const fork = steps.findIndex((step, index) => step !== others[index]);
  if (fork < 0) return false;
  if (fork === others.length) return true;
  return treeAt(tree, steps.slice(0, fork).join('.')).kind === 'chain' && Number(steps[fork]) > Number(others[fork]);
}

interface Undoing {
  state: 'open' | 'underWay' | 'stuck' | 'done';
  again: boolean;
}

/**
 * What is to be undone is requested when, and as soon as, nothing is left that comes before it and failed with it; and a
 * workflow is stuck when nothing but what is stuck holds up the others.
 * @param ends after how many events each decision was complete, with all that could be requested
 */
function checkOrder(
  tree: Tree,
  failed: ReadonlySet<string>,
  events: readonly RecordedEvent[],
  ends: ReadonlySet<number>,
): void {
  const known = new Map<string, Undoing>();
  const registered = new Set<string>();
  const scopes: string[] = [];
  const failedTogether = (one: string, other: string) =>
    scopes.some((scope) => isAbove(scope, one) && isAbove(scope, other));
  const before = (path: string) =>
    [...known].filter(
      ([other, { state }]) => state !== 'done' && comesBefore(tree, other, path) && failedTogether(other, path),
    );
  const expectHeldUp = (index: number) => {
    for (const [path, { state }] of known) {
      if (state !== 'open' || before(path).length > 0) continue;
      throw new Error(`event ${index}: ${path} is not requested, though nothing comes before it`);
    }
  };
  for (const [index, { type, data }] of events.entries()) {
    const { path, purpose, outcome, late, retried, remedy } = data as Record<string, string>;
    if (path !== undefined) {
      const own = known.get(path);
      const done = () => own && Object.assign(own, { state: own.again ? 'open' : 'done', again: false });
      if (type === TaskRequested.type && purpose === 'run') {
        for (const place of placesDownTo(path)) if (treeAt(tree, place).undo) registered.add(place);
      }
      if (type === TaskRequested.type && purpose === 'compensate' && own) {
        const [first] = before(path);
        if (own.state === 'open' && first) throw new Error(`event ${index}: ${path} is undone before ${first[0]}`);
        Object.assign(own, { state: 'underWay', again: false });
      }
      const fails =
        (type === NodeEnded.type && outcome === 'failed') ||
        (type === TaskFailed.type && purpose === 'run' && !retried && !late);
      if (fails && failed.has(path)) {
        scopes.push(path);
        for (const place of registered) {
          if (isAbove(path, place) && !known.has(place)) known.set(place, { state: 'open', again: false });
        }
      }
      if (type === TaskFailed.type && purpose === 'compensate' && !late && !retried && own) own.state = 'stuck';
      if (type === TaskSucceeded.type && purpose === 'compensate' && !late) done();
      if (type === TaskSucceeded.type && purpose === 'run' && late) {
        for (const place of placesDownTo(path)) {
          const above = known.get(place);
          if (above?.state === 'done') above.state = 'open';
          else if (above && above.state !== 'open') above.again = true;
        }
      }
      if (type === WorkflowUnstuck.type && remedy === 'retry' && own)
        Object.assign(own, { state: 'open', again: false });
      if (type === WorkflowUnstuck.type && remedy !== 'retry') done();
      if (type === WorkflowStuck.type) {
        expectHeldUp(index);
        expect([...known.values()].filter(({ state }) => state === 'underWay')).toEqual([]);
      }
    }
    if (ends.has(index + 1)) expectHeldUp(index);
  }
}

const placesDownTo = (path: string): string[] =>
  path.split('.').map((_, index, steps) => steps.slice(0, index + 1).join('.'));

/** What was asked for in a node that failed, and had not been answered, is revoked; nothing else, and nothing twice. */
function checkRevocations(events: readonly RecordedEvent[], inParts: boolean): void {
  const open = new Map<string, string>();
  const expected = new Set<string>();
  for (const { type, data } of events) {
    const { path, purpose, requestId, outcome, retried, late, timedOut } = data as Record<string, string>;
    if (!path) continue;
    if (requestId && type === TaskRequested.type && purpose === 'run') open.set(requestId, path);
    if (requestId && (type === TaskSucceeded.type || (type === TaskFailed.type && !timedOut))) open.delete(requestId);
    const failed =
      type === NodeEnded.type
        ? outcome === 'failed'
        : type === TaskFailed.type && purpose === 'run' && !retried && !late;
    if (failed) for (const [id, place] of open) if (isAbove(path, place)) expected.add(id);
  }
  const revoked = events.flatMap(({ type, data }) =>
    type === TaskRevoked.type ? [(data as DataOf<typeof TaskRevoked>).requestId] : [],
  );
  expect(new Set(revoked).size).toBe(revoked.length);
  // What has been answered before its part's turn came is not revoked.
  if (inParts) expect([...expected]).toEqual(expect.arrayContaining(revoked));
  else expect(revoked.sort()).toEqual([...expected].sort());
}

function checkRecords(events: readonly RecordedEvent[]): void {
  const ends = events.flatMap(({ type, data }) => {
    const { path, purpose, late, retried } = data as { path: string; purpose?: string; late?: true; retried?: true };
    if (type === NodeEnded.type) return [path];
    if (type !== TaskSucceeded.type && type !== TaskFailed.type) return [];
    return purpose === 'run' && !late && !retried ? [path] : [];
  });
  expect(new Set(ends).size).toBe(ends.length);
  const requests = events.filter(({ type }) => type === TaskRequested.type);
  const ids = requests.map(({ data }) => (data as DataOf<typeof TaskRequested>).requestId);
  expect(new Set(ids).size).toBe(ids.length);
}

it(`${trees} random workflows end as the model says, however late, often and disordered the answers come`, () => {
  const seen = new Map<string, number>();
  for (let run = 0; run < trees; run += 1) {
    const fate = new Fate(chance(0.1) ? 0 : random() * 0.8);
    const tree = randomTree(depthAtMost);
    const { definition } = write.workflow('random', { input: inputSchema }, (own) =>
      written(tree, { given: own.n, items: [] }),
    );
    const model = new Model(fate);
    const result = model.run(tree, '0', input.n);
    if (result === undefined) model.failed.add('0');
    const places = placesOfWaits(definition);
    const world = new World(
      fate,
      (tag) => places.get(tag),
      (path) => {
        const at = treeAt(tree, path);
        return at.kind === 'task' && at.patient;
      },
    );
    try {
      world.start(definition);
      const end = world.events.filter(({ type }) => /^workflow\.(completed|failed)$/.test(type));
      const status = result === undefined ? 'failed' : 'completed';
      expect(world.state).toMatchObject({ status });
      expect(new Set(end.map(({ type }) => type))).toEqual(new Set([`workflow.${status}`]));
      const unstuck = world.events.filter(
        ({ type, data }) => type === WorkflowUnstuck.type || (data as DataOf<typeof TaskSucceeded>).resolved,
      ).length;
      expect(end.length).toBeLessThanOrEqual(1 + unstuck);
      if (result !== undefined) expect(end[0]?.data).toEqual({ workflowId, result });
      checkCompensations(tree, model.failed, world.events);
      checkOrder(tree, model.failed, world.events, world.ends);
      checkRevocations(world.events, world.inParts);
      checkRecords(world.events);
      const before = world.events.length;
      for (const draft of world.stale) world.deliver(draft);
      expect(world.events.slice(before)).toEqual([]);
      if (chance(0.2)) expect(world.replayed()).toEqual(world.state);
      if (chance(0.2)) expect(fromSnapshot(world.state)).toEqual(world.state);
      seen.set(status, (seen.get(status) ?? 0) + 1);
      if (unstuck > 0) seen.set('stuck', (seen.get('stuck') ?? 0) + 1);
    } catch (error) {
      const log = world.events.map(({ type, data }) => `${type} ${JSON.stringify(data)}`).join('\n');
      throw new Error(`tree ${run}: ${JSON.stringify(tree)}\n${log}`, { cause: error });
    }
  }
  console.info(Object.fromEntries(seen));
  expect([...seen.keys()].sort()).toEqual(['completed', 'failed', 'stuck']);
});
