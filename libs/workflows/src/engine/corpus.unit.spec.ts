import * as contracts from '@starter/contracts';
import {
  defineCommand,
  defineEvent,
  DeliverEvent,
  EventExpected,
  StartWorkflow,
  UnstickWorkflow,
  type DataOf,
} from '@starter/contracts';
import { evolve, type RecordedEvent } from '@starter/event-sourcing';
import { decode, type MessageDefinition } from '@starter/messaging';
import { converse, type Conversation } from '@starter/testing';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import {
  chain,
  equals,
  forEach,
  group,
  lessThan,
  subWorkflow,
  task,
  waitForEvent,
  when,
  workflow,
  type AnyDraft,
} from '../definition/builder.js';
import type { Json } from '../definition/definition.js';
import type { Ref } from '../definition/typed-reference.js';
import { viewOf, type WorkflowView } from '../workflow.view.js';
import { workflowInstance } from './workflow.decider.js';
import { workflowSnapshots } from './workflow.snapshot.js';
import type { StartedWorkflow, WorkflowState } from './workflow.state.js';

const folder = join(import.meta.dirname, 'corpus');
const workflowId = '01980000-0000-7000-8000-000000000001';
const Do = defineCommand('corpus.do', { version: 1, owner: 'spec', schema: z.object({ with: z.json() }) });
const Undo = defineCommand('corpus.undo', { version: 1, owner: 'spec', schema: z.object({}) });
const Done = defineEvent('corpus.done', { version: 1, owner: 'spec', schema: z.object({ order: z.string() }) });
const input = z.object({ items: z.array(z.number()), order: z.string() });
const inner = workflow('inner', { input: z.object({ order: z.string() }) }, ({ order }) =>
  chain(task(Do, { with: order }), waitForEvent(Done, { match: { order } })),
);

function begin(build: (own: Ref<z.input<typeof input>>) => AnyDraft): Conversation<WorkflowState> {
  const { definition } = workflow('corpus', { input }, build);
  const given = { items: [1, 2, 3], order: 'o1' };
  return converse(workflowInstance, workflowId).when(
    StartWorkflow.of({ workflowId, workflow: 'corpus', definition, input: given }),
  );
}

function deliver(run: Conversation<WorkflowState>): Conversation<WorkflowState> {
  const expected = run.events.find(({ type }) => type === EventExpected.type) as RecordedEvent<
    DataOf<typeof EventExpected>
  >;
  return run.when(DeliverEvent.of({ workflowId, correlation: expected.data.correlation, data: { order: 'o1' } }));
}

/** What runs in some installation, as far as it has come there. */
const scenarios: Readonly<Record<string, () => Conversation<WorkflowState>>> = {
  'each-item-takes-its-branch': () =>
    begin(({ items, order }) =>
      forEach(items, (item) => when(lessThan(item, 3), task(Do, { with: item }), task(Do, { with: order }))),
    )
      .whenSucceeded(Do, { done: 1 })
      .whenSucceeded(Do, { done: 2 }),
  'sub-workflow-waits': () =>
    deliver(
      begin(({ order }) =>
        group(
          subWorkflow(inner, { order }),
          waitForEvent(Done, { match: { order } }),
          waitForEvent(Done, { match: { order } }),
        ),
      ),
    ).whenSucceeded(Do, { done: true }),
  'stuck-and-unstuck': () =>
    begin(({ order }) =>
      chain(
        task(Do, { with: 1 }).compensateWith(task(Undo, {})),
        when(equals(order, 'o1'), task(Do, { with: 2 }).compensateWith(task(Undo, {}))),
        task(Do, { with: 3 }),
      ),
    )
      .whenSucceeded(Do)
      .whenSucceeded(Do)
      .whenFailed(Do, 'no')
      .whenFailed(Undo, 'cannot')
      .when(UnstickWorkflow.of({ workflowId, path: '0.1.0', remedy: 'retry' })),
};

interface Pinned {
  readonly events: readonly { readonly type: string; readonly data: Json; readonly time: string }[];
  /** What it was read as. */
  readonly view: Json;
  readonly snapshot: { readonly version: number; readonly state: Json };
}

const asJson = (value: unknown): Json => JSON.parse(JSON.stringify(value)) as Json;

function pinned(name: string): Pinned {
  const run = (scenarios[name] as () => Conversation<WorkflowState>)();
  const { version, schema } = workflowSnapshots;
  return {
    events: run.events.map(({ type, data, time }) => ({ type, data: asJson(data), time: time.toISOString() })),
    view: asJson(viewOf(run.state as StartedWorkflow)),
    snapshot: { version, state: asJson(z.encode(schema, run.state)) },
  };
}

// Written once and kept: what a release has stored, every later one has to read. `CORPUS=write` adds what is missing; only what
// was never released may be deleted and written anew.
const fileOf = (name: string) => join(folder, `${name}.json`);
const files = () => readdirSync(folder).map((file) => file.replace(/\.json$/, ''));
if (process.env['CORPUS'] === 'write') {
  for (const name of Object.keys(scenarios)) {
    if (!files().includes(name)) writeFileSync(fileOf(name), `${JSON.stringify(pinned(name), undefined, 2)}\n`);
  }
}

const definitions = new Map(
  Object.values<unknown>(contracts)
    .filter((it): it is MessageDefinition => typeof it === 'object' && it !== null && 'kind' in it && 'type' in it)
    .map((definition) => [definition.type, definition]),
);

function replayed({ events }: Pinned): StartedWorkflow {
  return events.reduce<WorkflowState>((state, { type, data, time }, index) => {
    const decoded = decode(definitions.get(type) as MessageDefinition, { type, version: 1, data } as never);
    return evolve(workflowInstance, state, { type, data: decoded, sequence: index + 1, time: new Date(time) });
  }, workflowInstance.initialState) as StartedWorkflow;
}

it('has a file for each scenario', () => {
  expect(files()).toEqual(expect.arrayContaining(Object.keys(scenarios)));
});

/** An age is of the moment at which one looks. */
const withoutAges = (view: unknown): object =>
  JSON.parse(JSON.stringify(view, (name, value: unknown) => (name === 'ageSeconds' ? undefined : value))) as object;

it.each(files())('%s is read as it was when it was stored', (name) => {
  const file = JSON.parse(readFileSync(fileOf(name), 'utf8')) as Pinned;
  const view = asJson(viewOf(replayed(file))) as WorkflowView;
  // A view may get more fields; what was there stays.
  expect(view).toMatchObject(withoutAges(file.view));
});

it.each(files())(
  '%s comes from its snapshot as from its events, unless the version of snapshots was raised',
  (name) => {
    const file = JSON.parse(readFileSync(fileOf(name), 'utf8')) as Pinned;
    const { version, schema } = workflowSnapshots;
    const { state, version: stored } = file.snapshot;
    expect(stored).toBeLessThanOrEqual(version);
    if (stored === version) expect(z.decode(schema, state)).toEqual(replayed(file));
  },
);
