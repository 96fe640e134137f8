import type { Json } from './definition.js';
import { definitionSchema } from './definition.js';
import { readDefinition } from './check-definition.js';
import { defaultLimits, type WorkflowLimits } from './limits.js';

const step = (input: Json = {}, more: object = {}): Json => ({
  kind: 'task',
  command: 'x',
  version: 1,
  input,
  ...more,
});
const chain = (...steps: Json[]): Json => ({ kind: 'chain', steps });
const group = (...members: Json[]): Json => ({ kind: 'group', members });
const using = (reference: string): Json => step({ a: { $ref: reference } });
const nested = (depth: number): Json => (depth === 0 ? step() : chain(nested(depth - 1)));
const items = { $ref: 'input.list' };

it.each<[string, Json, string]>([
  [
    'a group of 1,000,000',
    chain({ kind: 'group', members: Array<Json>(1_000_000).fill(null) }),
    '0.0 group: 1000000 members, and 10000 are allowed; split them, or raise the limit',
  ],
  [
    '50 MB',
    step({ text: 'x'.repeat(50_000_000) }),
    'characters as JSON, and 4000000 are allowed; pass large values as input',
  ],
  [
    'a duration of −1',
    chain({ kind: 'sleep', duration: -1 }),
    'steps.0.duration: a duration is a whole number with a unit: 500ms, 30s, 5m, 24h or 7d',
  ],
  [
    'a duration of −1 as a text',
    chain({ kind: 'sleep', duration: '-1s' }),
    'steps.0.duration: a duration is a whole number',
  ],
  [
    'a sleep of ten years',
    chain({ kind: 'sleep', duration: '3660d' }),
    '0.0 sleep: 3660d is too long; 31622400000 ms are allowed',
  ],
  ['a timeout that is too long', chain(step({}, { timeout: '999d' })), '0.0 x: 999d is too long'],
  ['too many attempts', step({}, { retry: { attempts: 101 } }), '0 x: 101 attempts, and 100 are allowed'],
  ['no attempt', step({}, { retry: { attempts: 0 } }), 'retry.attempts: Too small'],
  ['what is nested too deep', nested(5_000), 'nodes are 51 deep, and 50 are allowed'],
  [
    'too many nodes',
    { kind: 'chain', steps: Array<Json>(20_000).fill(step()) },
    '0: more than 20000 nodes; split the workflow',
  ],
  ['an unknown kind of node', chain({ kind: 'loop' }), 'steps.0.kind: Invalid discriminator value'],
  ['an unknown field', chain(step({}, { retries: 1 })), 'steps.0: Unrecognized key: "retries"'],
  ['a reference to itself', chain(using('results.0.0')), '0.0 x.a: "results.0.0" is not known when 0.0 starts'],
  ['a cycle', chain(using('results.0.1'), using('results.0.0')), '0.0 x.a: "results.0.1" is not known when 0.0 starts'],
  [
    'a reference to a sibling of a group',
    group(step(), using('results.0.0')),
    '"results.0.0" is not known when 0.1 starts',
  ],
  ['a reference into nothing', using('results.0.7'), '0 x.a: "results.0.7" is not known when 0 starts'],
  [
    'a reference to a place that is not there',
    chain(step(), using('results.0.7')),
    '0.1 x.a: "results.0.7" names the place 0.7, which the definition lacks',
  ],
  [
    'a reference to a branch that may not be taken',
    chain({ kind: 'when', condition: { equals: [1, 1] }, then: step() }, using('results.0.0.0')),
    '"results.0.0.0" is not known when 0.1 starts',
  ],
  [
    'a reference to one of the items from outside',
    chain({ kind: 'forEach', items, body: step() }, using('results.0.0.*')),
    '"results.0.0.*" is not known when 0.1 starts',
  ],
  [
    'a reference to a member that may have failed',
    chain({ kind: 'group', members: [step()], policy: { minSuccess: 0 } }, using('results.0.0.0')),
    '"results.0.0.0" is not known when 0.1 starts',
  ],
  [
    'an item outside of its forEach',
    chain({ kind: 'forEach', items, body: step() }, using('item.0.0.id')),
    '"item.0.0.id" is not known when 0.1 starts',
  ],
  [
    'an item of something else',
    chain(using('item.0.id')),
    '0.0 x.a: "item.0.id" names the place 0, which is no forEach and has no items',
  ],
  [
    'a condition on what comes later',
    chain({ kind: 'when', condition: { not: { lessThan: [{ $ref: 'results.0.1' }, 1] } }, then: step() }, step()),
    '0.0 when.not.lessThan.0: "results.0.1" is not known when 0.0 starts',
  ],
  [
    'a group that can never succeed',
    { kind: 'group', members: [step()], policy: { minSuccess: 2 } },
    '0 group: 2 of its 1 members can never succeed',
  ],
  [
    'a wait for any event',
    { kind: 'waitForEvent', event: 'user.activated', match: {} },
    '0 waitForEvent: "match" is empty',
  ],
  ['an input without its key', step({}, { key: 'id' }), '0 x: the input has no "id", which names the actor; add it'],
  [
    'what is wrong inside a sub-workflow',
    chain(step(), { kind: 'subWorkflow', workflow: 'inner', input: {}, definition: chain(using('results.0.0')) }),
    '0.1.0.0 x.a: "results.0.0" is not known when 0.0 starts',
  ],
])('refuses %s and names the place', (_, definition, problem) => {
  expect(readDefinition(definition)).toEqual({ problems: [expect.stringContaining(problem)] });
});

it('accepts references to what has certainly ended, in every kind of node', () => {
  const definition = chain(
    step(),
    group(step(), chain(using('results.0.0'), using('results.0.1.1.0'))),
    { kind: 'forEach', items: { $ref: 'results.0.1' }, body: chain(using('item.0.2.id'), using('results.0.2.*.0')) },
    { kind: 'when', condition: { equals: [{ $ref: 'results.0.2' }, []] }, then: using('results.0.1.1.1') },
    using('results.0.3.anything'),
    { kind: 'fallback', attempt: using('results.0.2.0'), otherwise: using('results.0.0') },
    { kind: 'subWorkflow', workflow: 'inner', input: { a: { $ref: 'results.0.0' } }, definition: using('input.a') },
  );
  expect(readDefinition(definition)).toMatchObject({ definition: { kind: 'chain' } });
});

it('has limits that can be set', () => {
  const limits: WorkflowLimits = {
    ...defaultLimits,
    members: 2,
    depth: 3,
    nodes: 4,
    definitionSize: 1_000,
    durationMs: 1_000,
  };
  expect(readDefinition(group(step(), step(), step()), limits)).toMatchObject({
    problems: [expect.stringContaining('3 members, and 2 are allowed')],
  });
  expect(readDefinition({ kind: 'sleep', duration: '2s' }, limits)).toMatchObject({
    problems: [expect.stringContaining('1000 ms are allowed')],
  });
});

it('publishes a JSON schema that knows every kind of node', () => {
  const text = JSON.stringify(definitionSchema());
  for (const kind of [
    'task',
    'chain',
    'group',
    'forEach',
    'when',
    'fallback',
    'subWorkflow',
    'sleep',
    'waitForEvent',
  ]) {
    expect(text).toContain(`"const":"${kind}"`);
  }
});
