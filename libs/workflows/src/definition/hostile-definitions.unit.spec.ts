import { workflowContracts as contracts, workflows } from '@starter/orchestrator';
import { WorkflowRegistry } from '../workflow-registry.js';
import { readDefinition } from './check-definition.js';
import { holds } from './condition.js';
import { inputProblems } from './contract-problems.js';
import type { Condition, Json, WorkflowNode } from './definition.js';
import { requestLimits } from './limits.js';
import { resolve } from './reference.js';

const registry = new WorkflowRegistry(workflows, contracts);
const campaignId = '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5f';
const completing = (results: Json): WorkflowNode => ({
  kind: 'task',
  command: 'campaign.complete',
  version: 1,
  key: 'campaignId',
  input: { campaignId, name: 'spec', results },
});
const pause: WorkflowNode = { kind: 'sleep', duration: '1s' };
const list = (length: number, item: Json = 1): Json => Array.from({ length }, () => item);

/** Counts how often something inside a value is read. */
function counted<T extends object>(value: T): { readonly value: T; readonly reads: () => number } {
  let reads = 0;
  const proxies = new WeakMap<object, object>();
  const wrap = (inner: unknown): unknown => {
    if (typeof inner !== 'object' || inner === null) return inner;
    const proxy =
      proxies.get(inner) ??
      new Proxy(inner, {
        get(target, key, receiver) {
          reads += 1;
          return wrap(Reflect.get(target, key, receiver));
        },
      });
    proxies.set(inner, proxy);
    return proxy;
  };
  return { value: wrap(value) as T, reads: () => reads };
}

describe('an input', () => {
  const readsFor = (definition: WorkflowNode, items: number): number => {
    const input = counted({ a: list(items) });
    inputProblems(definition, input.value, contracts, requestLimits.eventBytes);
    return input.reads();
  };
  const group = (size: number): WorkflowNode => ({
    kind: 'group',
    members: Array.from({ length: size }, () => completing({ $ref: 'input.a' })),
    policy: 'failFast',
  });

  it('is not read once for each reference of a command', () => {
    const references = (count: number) => completing(list(count, { $ref: 'input.a' }));
    expect(readsFor(references(2_000), 40_000)).toBeLessThan(10 * 40_000);
    expect(readsFor(references(2_000), 40_000) / readsFor(references(1_000), 40_000)).toBeLessThan(1.5);
  });

  it('is not read once for each command', () => {
    expect(readsFor(group(1_000), 40_000)).toBeLessThan(20 * 40_000);
    expect(readsFor(group(1_000), 40_000) / readsFor(group(500), 40_000)).toBeLessThan(1.5);
  });

  it('is checked as long as that is little work', async () => {
    const wrong = completing({ $ref: 'input.a' });
    const command = {
      ...wrong,
      input: { campaignId: { $ref: 'input.id' }, name: 'spec', results: [] },
    } as WorkflowNode;
    expect(await registry.read(command, { id: 'nobody' })).toMatchObject({
      problems: ['0 campaign.complete.campaignId: Invalid UUID'],
    });
  });

  it('must not make a command larger than an event', async () => {
    const definition = completing(list(20, { $ref: 'input.a' }));
    expect(await registry.read(definition, { a: list(40_000, 10) })).toEqual({
      problems: [
        expect.stringMatching(/^0 campaign\.complete: takes 24\d{5} bytes with the values .* 990000 are allowed/),
      ],
    });
  });
});

describe('a definition', () => {
  it.each<[string, Json, string]>([
    ['too many nodes', { kind: 'chain', steps: list(5_000, pause) }, '0: more than 5000 nodes'],
    [
      'too many conditions',
      { kind: 'when', condition: { all: list(5_000, { equals: [1, 1] }) }, then: pause as Json },
      '0: more than 5000 nodes and conditions',
    ],
    [
      'conditions that are none',
      { kind: 'when', condition: { all: list(4_000, { equal: [1, 1] }) }, then: pause as Json },
      '0: a condition has one field',
    ],
    [
      'a comparison of one value',
      { kind: 'when', condition: { not: { equals: [1] } }, then: pause as Json },
      '0: a condition has one field',
    ],
    ['too much text', completing('x'.repeat(250_000)), 'root: 250165 characters as JSON'],
    [
      'a reference that is a text of its own',
      completing({ $ref: `input${'.a'.repeat(100_000)}` }),
      '0 campaign.complete.results: a reference has 200005 characters, and 1000 are allowed',
    ],
  ])('with %s is refused at once', async (_, definition, problem) => {
    expect(await registry.read(definition, {})).toEqual({ problems: [expect.stringContaining(problem)] });
  });

  it('with keys that are long and deep in each other has short problems', async () => {
    let value: Json = list(100, { $ref: 'results.0' });
    for (let depth = 0; depth < 200; depth += 1) value = { ['k'.repeat(1_000)]: value };
    const read = await registry.read(completing(value), {});
    expect('problems' in read && read.problems.length).toBe(20);
    expect(JSON.stringify(read).length).toBeLessThan(25_000);
  });

  it('is read by others than those that hold up requests with more nodes', () => {
    expect(readDefinition({ kind: 'chain', steps: list(6_000, pause as Json) })).toHaveProperty('definition');
  });
});

describe('values of a running workflow', () => {
  const input = { a: list(40_000), b: list(40_000) };
  const values = { definition: completing([]), mostBytes: 990_000, start: () => input };

  it('are weighed before they are put together', () => {
    expect(() => resolve(list(100, { $ref: 'input.a' }), '0 spec', values)).toThrow(
      /^0 spec: takes 8\d{6} bytes with the values that it refers to, and 990000 are allowed/,
    );
  });

  it('are compared in all not more than an event may hold', () => {
    const equal: Condition = { equals: [{ $ref: 'input.a' }, { $ref: 'input.b' }] };
    expect(holds({ all: [equal, equal] }, '0 when', values)).toBe(true);
    expect(() => holds({ all: Array.from({ length: 50 }, () => equal) }, '0 when', values)).toThrow(
      '0 when.equals: the condition compares more than 990000 bytes; compare less',
    );
  });
});
