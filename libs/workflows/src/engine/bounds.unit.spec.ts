import {
  defineCommand,
  defineEvent,
  DeliverEvent,
  EventAwaited,
  EventReceived,
  StartWorkflow,
  SubWorkflowStarted,
  TaskRequested,
  WorkflowCompleted,
  WorkflowStarted,
  type DataOf,
} from '@starter/contracts';
import { CommandSucceeded, decide, evolve, isRejection, type RecordedEvent } from '@starter/event-sourcing';
import { createMessage, type Draft } from '@starter/messaging';
import { z } from 'zod';
import {
  chain,
  chord,
  forEach,
  sleep,
  task,
  waitForEvent,
  when,
  workflow,
  type AnyDraft,
} from '../definition/builder.js';
import type { Json, WorkflowNode } from '../definition/definition.js';
import { defaultLimits, type WorkflowLimits } from '../definition/limits.js';
import type { Ref } from '../definition/typed-reference.js';
import { rootPath } from '../definition/node-path.js';
import { resultOf } from './values.js';
import { workflowActor, workflowInstance } from './workflow.decider.js';
import type { StartedWorkflow, WorkflowState } from './workflow.state.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const Do = defineCommand('bounds.do', { version: 1, owner: 'spec', schema: z.object({ with: z.json() }) });
const Undo = defineCommand('bounds.undo', { version: 1, owner: 'spec', schema: z.object({}) });
const Done = defineEvent('bounds.done', {
  version: 1,
  owner: 'spec',
  schema: z.object({ order: z.string(), text: z.string() }),
});
const input = z.object({ items: z.array(z.number()), order: z.string() });

const definitionOf = (build: (own: Ref<z.input<typeof input>>) => AnyDraft): WorkflowNode =>
  workflow('bounds', { input }, build).definition;

interface Options {
  readonly input?: Record<string, Json>;
  readonly answer?: (data: unknown) => Json;
  readonly actor?: typeof workflowInstance;
}

/** Runs a workflow until nothing is left to be done; every command succeeds at once. */
function run(definition: WorkflowNode, { input: given = {}, answer = () => null, actor = workflowInstance }: Options) {
  let state: WorkflowState = actor.initialState;
  let largest = 0;
  const events: RecordedEvent[] = [];
  const send = (first: Draft): void => {
    const pending = [first];
    for (let draft = pending.shift(); draft; draft = pending.shift()) {
      const { type, version } = draft.definition;
      const message = createMessage({ type, version, source: 'spec', subject: workflowId, data: draft.data });
      const decision = decide(actor, { data: draft.data, message }, state);
      if (isRejection(decision)) throw new Error(decision.rejected);
      largest = Math.max(largest, decision.length);
      for (const event of decision) {
        const recorded = {
          type: event.definition.type,
          data: event.data,
          sequence: events.length + 1,
          time: new Date(0),
        };
        events.push(recorded);
        state = evolve(actor, state, recorded);
        for (const { type: sent, id, data } of actor.outgoing?.(recorded) ?? []) {
          const own = [...actor.decide.values()].find(({ definition: of }) => of.type === sent);
          if (own) pending.push({ definition: own.definition, data });
          else if (sent === Do.type || sent === Undo.type) {
            pending.push({ definition: CommandSucceeded, data: { requestId: id, result: answer(data) } });
          }
        }
      }
    }
  };
  send(StartWorkflow.of({ workflowId, workflow: 'bounds', definition, input: given }));
  return { events, send, largest: () => largest, state: () => state as StartedWorkflow };
}

const ofType = <Data>(events: readonly RecordedEvent[], { type }: { readonly type: string }) =>
  events.filter((event) => event.type === type) as RecordedEvent<Data>[];

describe('the budget of a workflow', () => {
  const items = Array.from({ length: 10_000 }, (_, index) => index);
  const limits: WorkflowLimits = { ...defaultLimits, instance: { members: 100, events: 1_000, bytes: 200_000 } };
  const small = workflowActor(limits);

  it('refuses what multiplies to too many members before the first one begins', () => {
    const nested = definitionOf(({ items: own }) => forEach(own, () => forEach(own, () => sleep('300d'))));
    expect(JSON.stringify(nested).length).toBeLessThan(300);
    expect(() => run(nested, { input: { items } })).toThrow(
      'the definition cannot run: 0: the workflow would have 100010000 members in all, and 50000 are allowed',
    );
  });

  it('fails the group that would have too many members, when that shows while it runs, and undoes what was done', () => {
    const inner = Array.from({ length: 30 }, (_, index) => index);
    const { state, events } = run(
      definitionOf(() =>
        chain(task(Do, { with: 'inner' }).compensateWith(task(Undo, {})), (found) =>
          forEach([1, 2, 3, 4] as never, () => forEach(found as never, () => task(Do, { with: 1 }))),
        ),
      ),
      { actor: small, answer: (data) => ((data as { with: unknown }).with === 'inner' ? inner : null) },
    );
    expect(state()).toMatchObject({
      status: 'failed',
      reason: expect.stringMatching(
        /^0\.1\.3 forEach: the workflow would have 124 members in all, and 100 are allowed/,
      ) as string,
    });
    expect(ofType<DataOf<typeof TaskRequested>>(events, TaskRequested).at(-1)?.data).toMatchObject({
      purpose: 'compensate',
    });
  });

  it('fails the task that would make its events too large', () => {
    const { state } = run(
      definitionOf(() => chain(...Array.from({ length: 30 }, () => task(Do, { with: 'x' })))),
      { actor: small, answer: () => 'y'.repeat(20_000) },
    );
    expect(state()).toMatchObject({
      status: 'failed',
      reason: expect.stringMatching(
        /bounds\.do.*: the workflow would have \d+ bytes of events in all, and 200000/,
      ) as string,
    });
  });

  it('fails the task whose result is larger than an event', () => {
    const { state } = run(
      definitionOf(() => task(Do, { with: 'x' })),
      { answer: () => 'y'.repeat(1_000_000) },
    );
    expect(state()).toMatchObject({
      status: 'failed',
      reason: '0 bounds.do failed: its result takes 1000002 bytes, and 990000 are allowed; answer with less',
    });
  });

  it('resolves the input of a sub-workflow once, however deep they are in each other', () => {
    let definition: WorkflowNode = {
      kind: 'task',
      command: Do.type,
      version: 1,
      input: { with: { $ref: 'input.a' } },
    };
    for (let depth = 0; depth < 46; depth += 1) {
      definition = {
        kind: 'subWorkflow',
        workflow: 'inner',
        input: { a: { $ref: 'input.a' }, b: { $ref: 'input.a' } },
        definition,
      };
    }
    const { state, events } = run(definition, { input: { a: 1 } });
    expect(state().status).toBe('completed');
    expect(ofType(events, SubWorkflowStarted)).toHaveLength(46);
  });

  it('fails a sub-workflow whose input doubles from one to the next', () => {
    let definition: WorkflowNode = { kind: 'sleep', duration: '1s' };
    for (let depth = 0; depth < 46; depth += 1) {
      const twice = { $ref: 'input.a' };
      definition = { kind: 'subWorkflow', workflow: 'inner', input: { a: [twice, twice] }, definition };
    }
    const { state } = run(definition, { input: { a: 'x'.repeat(1_000) } });
    expect(state().reason).toMatch(
      /^0(\.0)+ subWorkflow: takes \d+ bytes with the values that it refers to, and 990000 are allowed/,
    );
  });
});

describe('results of 1 kB of 10,000 members', () => {
  const members = () =>
    forEach(Array.from({ length: 10_000 }, (_, index) => index) as never, () => task(Do, { with: 1 }));
  const answer = () => 'r'.repeat(1_000);

  it('end their workflow well; its last event leaves out what is in those before', () => {
    const { state, events } = run(definitionOf(members), { answer });
    expect(state().status).toBe('completed');
    expect(events.at(-1)).toMatchObject({ type: WorkflowCompleted.type, data: { workflowId } });
    expect(events.at(-1)?.data).not.toHaveProperty('result');
    expect(resultOf(state(), rootPath)).toHaveLength(10_000);
  });

  it('fail the body of a chord with its place, for they do not fit in its command', () => {
    const { state } = run(
      definitionOf(() => chord(members(), (results) => task(Do, { with: results as never }))),
      { answer },
    );
    expect(state()).toMatchObject({
      status: 'failed',
      reason: expect.stringMatching(/^0\.1 bounds\.do.*takes 100\d{5} bytes with the values/) as string,
    });
  });
});

describe('an event for 2,000 waits', () => {
  const waiting = run(
    definitionOf(({ order }) =>
      forEach(Array.from({ length: 2_000 }, (_, index) => index) as never, () =>
        chain(waitForEvent(Done, { match: { order } }), task(Do, { with: 1 })),
      ),
    ),
    { input: { order: 'o1', items: [] } },
  );
  const { correlation } = ofType<DataOf<typeof EventAwaited>>(waiting.events, EventAwaited)[0]!.data;
  const before = waiting.events.length;
  waiting.send(DeliverEvent.of({ workflowId, correlation, data: { order: 'o1', text: 'x'.repeat(2_000) } }));

  it('is stored once, and wakes them in parts', () => {
    expect(waiting.largest()).toBeLessThan(600);
    const after = waiting.events.slice(before);
    expect(ofType(after, EventReceived)).toHaveLength(2_000);
    expect(after.filter(({ data }) => JSON.stringify(data).includes('xxx')).length).toBeLessThan(3);
  });

  it('is the result of each', () => {
    expect(waiting.state().status).toBe('completed');
    expect(resultOf(waiting.state(), '0.1999.0')).toMatchObject({ order: 'o1' });
    expect(waiting.state().arrivals.isEmpty()).toBe(true);
  });
});

it('replays to the same state when conditions and templates are read in another way, or not at all', () => {
  const { events, state } = run(
    definitionOf(({ items, order }) =>
      chain(
        forEach(items, (item) =>
          when({ lessThan: [item, 3] } as never, task(Do, { with: item }), task(Do, { with: order })),
        ),
        when({ equals: [order, 'o1'] } as never, task(Do, { with: 'yes' })),
      ),
    ),
    { input: { items: [1, 2, 3, 4], order: 'o1' }, answer: (data) => data as Json },
  );
  expect(state().status).toBe('completed');
  const unreadable = (json: Json): Json => {
    if (typeof json !== 'object' || json === null) return json;
    if (Array.isArray(json)) return json.map(unreadable);
    const parts = Object.entries(json).map(([key, value]) => [
      key,
      ['condition', 'items', 'input'].includes(key) ? { of: 'another release' } : unreadable(value),
    ]);
    return { ...(Object.fromEntries(parts) as object), added: 'by another release' };
  };
  const replayed = events.reduce<WorkflowState>((before, event) => {
    const data = event.data as DataOf<typeof WorkflowStarted>;
    const read = event.type === WorkflowStarted.type ? { ...data, definition: unreadable(data.definition) } : data;
    return evolve(workflowInstance, before, { ...event, data: read });
  }, workflowInstance.initialState) as StartedWorkflow;
  expect(replayed.results.toJS()).toEqual(state().results.toJS());
  expect({ ...replayed, definition: 0, spent: 0 }).toEqual({ ...state(), definition: 0, spent: 0 });
});
