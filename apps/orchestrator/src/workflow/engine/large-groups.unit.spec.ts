import { defineCommand, StartWorkflow, TaskRequested, WorkflowCompleted } from '@starter/contracts';
import { CommandSucceeded, decide, evolve, isRejection, type RecordedEvent } from '@starter/event-sourcing';
import { createMessage, type Draft } from '@starter/messaging';
import { z } from 'zod';
import { chord, group, task, workflow } from '../definition/builder.js';
import { workflowInstance } from './workflow.decider.js';
import type { WorkflowState } from './workflow.state.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const Do = defineCommand('large.do', { version: 1, owner: 'spec', schema: z.object({ with: z.json() }) });

/** Runs a chord to its end, and tells how many events the largest decision had. */
function runChord(size: number) {
  let state: WorkflowState = workflowInstance.initialState;
  let sequence = 0;
  let largest = 0;
  const pending: Draft[] = [];
  const events: RecordedEvent[] = [];
  const { definition } = workflow('large', { input: z.object({}) }, () =>
    chord(group(...Array.from({ length: size }, (_, index) => task(Do, { with: index }))), (results) =>
      task(Do, { with: results as never }),
    ),
  );
  pending.push(StartWorkflow.of({ workflowId, workflow: 'large', definition: definition, input: {} }));
  for (let draft = pending.pop(); draft; draft = pending.pop()) {
    const { type, version } = draft.definition;
    const message = createMessage({ type, version, source: 'spec', subject: workflowId, data: draft.data });
    const decision = decide(workflowInstance, { data: draft.data, message }, state);
    if (isRejection(decision)) throw new Error(decision.rejected);
    largest = Math.max(largest, decision.length);
    for (const event of decision) {
      sequence += 1;
      const recorded = { type: event.definition.type, data: event.data, sequence, time: new Date(0) };
      events.push(recorded);
      state = evolve(workflowInstance, state, recorded);
      for (const { type: sent, id, data } of workflowInstance.outgoing?.(recorded) ?? []) {
        if (sent === Do.type) {
          const result = (data as { with: unknown }).with;
          pending.push({ definition: CommandSucceeded, data: { requestId: id, result } });
        } else {
          const known = [...workflowInstance.decide.values()].find(({ definition: of }) => of.type === sent);
          if (known) pending.unshift({ definition: known.definition, data });
        }
      }
    }
  }
  return { events, largest, state };
}

const large = runChord(10_000);

it('hands 10,000 results to the body of a chord, in the order of the members, whatever order they came in', () => {
  const { events, state } = large;
  expect(state.status).toBe('completed');
  const result = Array.from({ length: 10_000 }, (_, index) => index);
  expect(events.at(-1)).toMatchObject({ type: WorkflowCompleted.type, data: { result } });
  expect(events.filter(({ type }) => type === TaskRequested.type)).toHaveLength(10_001);
});

it('begins the members in parts, so that no transaction has to hold them all', () => {
  const { largest, events } = large;
  expect(largest).toBeLessThan(600);
  expect(events.length).toBeLessThan(2.1 * 10_000);
});

it('writes as little for a member of 10,000 as for one of 100', () => {
  const perMember = ({ events }: typeof large, size: number): number => {
    const ofMembers = events.filter(({ data }) => (data as { path?: string }).path?.startsWith('0.0.'));
    return JSON.stringify(ofMembers).length / size;
  };
  // Paths and values of four digits instead of two.
  expect(perMember(large, 10_000)).toBeLessThan(1.1 * perMember(runChord(100), 100));
});
