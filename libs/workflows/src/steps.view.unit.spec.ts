import { StartWorkflow } from '@starter/contracts';
import { converse } from '@starter/testing';
import { CommandSucceeded } from '@starter/event-sourcing';
import { workflowInstance } from './engine/workflow.decider.js';
import type { StartedWorkflow } from './engine/workflow.state.js';
import { pageOfSteps } from './steps.view.js';
import { viewOf } from './workflow.view.js';

const workflowId = '01980000-0000-7000-8000-000000000001';

/** `results` of so many bytes each, of a forEach. */
function workflowOf(count: number, bytes: number): StartedWorkflow {
  const task = { kind: 'task', command: 'work.do', version: 1, input: {} };
  const items = Array.from({ length: count }, (_, n) => n);
  const definition = { kind: 'forEach', items, body: task };
  const run = converse(workflowInstance, workflowId).when(
    StartWorkflow.of({ workflowId, workflow: 'large', definition, input: {} }),
  );
  for (const { requestId } of [...(run.state as StartedWorkflow).requests.values()]) {
    run.when({ definition: CommandSucceeded, data: { requestId, result: 'x'.repeat(bytes) } });
  }
  return run.state as StartedWorkflow;
}

it('ends a page of steps before its results take more than 1 MB, but never before its first step', () => {
  const state = workflowOf(25, 300_000);
  const sizes: number[] = [];
  const numbers: number[] = [];
  for (let after: number | undefined; ;) {
    const page = pageOfSteps(state, { limit: 100, after });
    sizes.push(JSON.stringify(viewOf(state, page)).length);
    numbers.push(...page.requests.map(({ number }) => number));
    if (page.next === undefined) break;
    after = page.next;
  }
  expect(numbers).toEqual(Array.from({ length: 25 }, (_, n) => n));
  expect(sizes.length).toBe(9);
  // In `steps` and in `results`.
  expect(Math.max(...sizes)).toBeLessThan(2_000_000);
  expect(pageOfSteps(workflowOf(2, 980_000), { limit: 1 }).requests).toHaveLength(1);
  expect(pageOfSteps(workflowOf(2, 980_000), { limit: 2 }).requests).toHaveLength(1);
});

it('has all results of a small workflow, those of groups among them', () => {
  const { results, steps, next } = viewOf(workflowOf(3, 1));
  expect([steps.length, next]).toEqual([3, undefined]);
  expect(results).toEqual({ '0': ['x', 'x', 'x'], '0.0': 'x', '0.1': 'x', '0.2': 'x' });
});
