import { StartWorkflow, TimerFired } from '@starter/contracts';
import { decide, evolve, isRejection } from '@starter/event-sourcing';
import { createMessage, type Draft } from '@starter/messaging';
import type { WorkflowNode } from '../definition/definition.js';
import { defaultLimits, requestLimits } from '../definition/limits.js';
import { workflowInstance } from './workflow.decider.js';
import type { WorkflowState } from './workflow.state.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const pause: WorkflowNode = { kind: 'sleep', duration: '1s' };
const chainOf = (length: number, step: WorkflowNode): WorkflowNode => ({
  kind: 'chain',
  steps: Array.from({ length }, () => step),
});
const deep = (depth: number, inner: WorkflowNode): WorkflowNode =>
  depth === 0 ? inner : { kind: 'chain', steps: [deep(depth - 1, inner)] };

/** What ends at once, and makes way for what follows; as much of it as a request may hold. */
const shapes: readonly [string, WorkflowNode, number][] = [
  ['empty groups', chainOf(4_990, { kind: 'group', members: [], policy: 'failFast' }), 4_990],
  ['empty groups 46 deep', deep(46, chainOf(4_900, { kind: 'group', members: [], policy: 'failFast' })), 4_900],
  ['empty forEaches', chainOf(2_490, { kind: 'forEach', items: [], body: pause, policy: 'failFast' }), 2_490],
  ['conditions', chainOf(1_660, { kind: 'when', condition: { lessThan: [2, 1] }, then: pause }), 1_660],
  [
    'sub-workflows',
    chainOf(2_490, { kind: 'subWorkflow', workflow: 'x', input: {}, definition: chainOf(0, pause) }),
    2_490,
  ],
  ['time limits', chainOf(4_500, { kind: 'chain', steps: [], timeout: '1s' }), 4_500],
  [
    'such members',
    {
      kind: 'forEach',
      items: [1, 2, 3],
      body: chainOf(1_000, { kind: 'group', members: [], policy: 'failFast' }),
      policy: 'failFast',
    },
    3_000,
  ],
];

it.each(shapes)('steps that end at once are done in parts: %s', (_, definition, steps) => {
  expect(JSON.stringify(definition).length).toBeLessThan(requestLimits.definitionSize);
  let state: WorkflowState = workflowInstance.initialState;
  const sizes: number[] = [];
  const left: Draft[] = [StartWorkflow.of({ workflowId, workflow: 'wide', definition, input: {} })];
  for (let draft = left.pop(); draft; draft = left.pop()) {
    const { type, version } = draft.definition;
    const message = createMessage({ type, version, source: 'spec', subject: workflowId, data: draft.data });
    const decision = decide(workflowInstance, { data: draft.data, message }, state);
    if (isRejection(decision)) throw new Error(decision.rejected);
    sizes.push(decision.length);
    for (const { definition: of, data } of decision) {
      const event = { type: of.type, data, sequence: 1, time: new Date(0) };
      state = evolve(workflowInstance, state, event);
      for (const { type: sent, data: sentData } of workflowInstance.outgoing?.(event) ?? []) {
        // Delivered twice, it changes nothing.
        if (sent === TimerFired.type)
          left.push({ definition: TimerFired, data: sentData }, { definition: TimerFired, data: sentData });
      }
    }
  }
  expect(state.status).toBe('completed');
  const { events, bytes } = defaultLimits.part;
  expect(bytes).toBeGreaterThan(0);
  // The last node of a part may end what it is in.
  expect(Math.max(...sizes)).toBeLessThan(events + 60);
  expect(sizes.reduce((sum, size) => sum + size)).toBeGreaterThan(steps);
});
