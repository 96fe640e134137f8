import { ActivateUser, DeactivateUser, StartWorkflow } from '@starter/contracts';
import {
  CommandFailed,
  CommandSucceeded,
  decide,
  evolve,
  isRejection,
  type RecordedEvent,
} from '@starter/event-sourcing';
import { toMessage, type Draft } from '@starter/messaging';
import { seededRandom } from '@starter/testing';
import { z } from 'zod';
import { chain, task, workflow, type AnyDraft } from '../definition/builder.js';
import { workflowInstance } from './workflow.decider.js';
import type { WorkflowState } from './workflow.state.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const userId = '01980000-0000-7000-8000-000000000002';
const random = seededRandom();
const chance = (probability: number): boolean => random() < probability;
const below = (limit: number): number => Math.floor(random() * limit);

function randomNode(depth: number): AnyDraft {
  const isTask = depth === 0 || chance(0.4);
  const node = isTask
    ? task(ActivateUser, { userId })
    : chain(...Array.from({ length: below(5) }, () => randomNode(depth - 1)));
  return chance(0.4) ? node.compensateWith(task(DeactivateUser, { userId, reason: 'undone' })) : node;
}

const fold = (state: WorkflowState, event: RecordedEvent): WorkflowState => evolve(workflowInstance, state, event);

/** A workflow in a world that answers late, twice, in any order, and not always well. */
class World {
  state = workflowInstance.initialState;
  readonly events: RecordedEvent[] = [];
  readonly requests: string[] = [];
  private replies: Draft[] = [];

  constructor(private readonly failureRate: number) {}

  deliver(command: Draft): void {
    // A process that starts in the middle knows only the log.
    if (chance(0.2)) this.state = this.events.reduce(fold, workflowInstance.initialState);
    const message = toMessage(command, { source: 'spec', subject: workflowId });
    const decision = decide(workflowInstance, { data: command.data, message }, this.state);
    if (isRejection(decision)) throw new Error(decision.rejected);
    for (const draft of decision) this.record(draft);
  }

  run(): void {
    while (this.replies.length > 0) {
      const [reply] = this.replies.splice(below(this.replies.length), 1);
      this.deliver(reply!);
      if (chance(0.2)) this.deliver(reply!);
    }
  }

  private record({ definition: { type }, data }: Draft): void {
    const event: RecordedEvent = { type, data, sequence: this.events.length + 1, time: new Date(0) };
    this.events.push(event);
    this.state = fold(this.state, event);
    for (const { id: requestId } of workflowInstance.outgoing?.(event) ?? []) {
      this.requests.push(requestId);
      const success: Draft = { definition: CommandSucceeded, data: { requestId, result: null } };
      const failure: Draft = { definition: CommandFailed, data: { requestId, reason: 'chance' } };
      const answer = chance(this.failureRate) ? failure : success;
      this.replies.push(answer, ...(chance(0.3) ? [answer] : []), ...(chance(0.1) ? [success, failure] : []));
    }
  }
}

it('random workflows under late, repeated, reordered and failing replies end, and request nothing twice', () => {
  const ends = new Map<string, number>();
  for (let run = 0; run < 500; run += 1) {
    const { definition } = workflow('random', { input: z.object({}) }, () => randomNode(4));
    const world = new World(chance(0.3) ? 0 : random() * 0.4);
    const start = StartWorkflow.of({ workflowId, workflow: 'random', definition, input: {} });
    world.deliver(start);
    if (chance(0.5)) world.deliver(start);
    world.run();
    const { status } = world.state;
    expect(['completed', 'failed', 'stuck']).toContain(status);
    expect(new Set(world.requests).size).toBe(world.requests.length);
    const terminal = world.events.filter(({ type }) => /^workflow\.(completed|failed|stuck)$/.test(type));
    expect(terminal).toEqual([world.events.at(-1)]);
    ends.set(status, (ends.get(status) ?? 0) + 1);
  }
  expect([...ends.keys()].sort()).toEqual(['completed', 'failed', 'stuck']);
});
