import {
  defineCommand,
  ResolveRequest,
  StartWorkflow,
  TaskRequested,
  TimerSet,
  WorkflowCompleted,
  WorkflowFailed,
  WorkflowStuck,
} from '@starter/contracts';
import {
  CommandFailed,
  CommandSucceeded,
  decide,
  evolve,
  isRejection,
  type OutgoingCommand,
  type RecordedEvent,
} from '@starter/event-sourcing';
import { createMessage, type Draft } from '@starter/messaging';
import { z } from 'zod';
import { chain, chord, group, task, workflow, type AnyDraft } from '../definition/builder.js';
import { workflowInstance } from './workflow.decider.js';
import type { WorkflowState } from './workflow.state.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const contract = { version: 1, owner: 'spec', schema: z.object({ with: z.json() }) } as const;
const Do = defineCommand('large.do', contract);
const Undo = defineCommand('large.undo', contract);

/** A workflow whose commands wait until they are answered; what it sends to itself arrives at once. */
class Run {
  state: WorkflowState = workflowInstance.initialState;
  readonly events: RecordedEvent[] = [];
  /** Events of the largest decision. */
  largest = 0;
  private readonly open: OutgoingCommand[] = [];

  constructor(draft: AnyDraft) {
    const { definition } = workflow('large', { input: z.object({}) }, () => draft);
    this.send(StartWorkflow.of({ workflowId, workflow: 'large', definition, input: {} }));
  }

  send(draft: Draft): void {
    const own: Draft[] = [draft];
    for (let next = own.shift(); next; next = own.shift()) {
      const { type, version } = next.definition;
      const message = createMessage({ type, version, source: 'spec', subject: workflowId, data: next.data });
      const decision = decide(workflowInstance, { data: next.data, message }, this.state);
      if (isRejection(decision)) throw new Error(decision.rejected);
      this.largest = Math.max(this.largest, decision.length);
      for (const { definition, data } of decision) {
        const event = { type: definition.type, data, sequence: this.events.length + 1, time: new Date(0) };
        this.events.push(event);
        this.state = evolve(workflowInstance, this.state, event);
        for (const command of workflowInstance.outgoing?.(event) ?? []) {
          const known = [...workflowInstance.decide.values()].find((of) => of.definition.type === command.type);
          if (known) own.push({ definition: known.definition, data: command.data });
          else this.open.push(command);
        }
      }
    }
  }

  /** What the open commands of a kind do, the latest first. */
  openWith = ({ type }: typeof Do): unknown[] =>
    this.open.filter((command) => command.type === type).map(({ data }) => (data as { with: unknown }).with);

  /** Answers all that are open, and those that they lead to, or so many of them: each succeeds unless it does what fails. */
  answerAll({ type }: typeof Do, fails: unknown = undefined, count = Infinity): void {
    for (let left = count, next = this.taken(type); next; next = left > 0 ? this.taken(type) : undefined) {
      left -= 1;
      const result = (next.data as { with: unknown }).with;
      const requestId = next.id;
      if (result === fails) this.send({ definition: CommandFailed, data: { requestId, reason: 'cannot' } });
      else this.send({ definition: CommandSucceeded, data: { requestId, result } });
    }
  }

  private taken(type: string): OutgoingCommand | undefined {
    const index = this.open.findLastIndex((command) => command.type === type);
    return index < 0 ? undefined : this.open.splice(index, 1)[0];
  }

  ofType = ({ type }: { readonly type: string }): RecordedEvent[] => this.events.filter((event) => event.type === type);
}

const numbers = (size: number) => Array.from({ length: size }, (_, index) => index);

describe('a chord of 10,000', () => {
  const runChord = (size: number): Run => {
    const run = new Run(
      chord(group(...numbers(size).map((index) => task(Do, { with: index }))), (results) =>
        task(Do, { with: results as never }),
      ),
    );
    run.answerAll(Do);
    return run;
  };
  const large = runChord(10_000);

  it('hands the results to its body in the order of the members, whatever order they came in', () => {
    expect(large.state.status).toBe('completed');
    expect(large.events.at(-1)).toMatchObject({ type: WorkflowCompleted.type, data: { result: numbers(10_000) } });
    expect(large.ofType(TaskRequested)).toHaveLength(10_001);
  });

  it('begins the members in parts, so that no transaction has to hold them all', () => {
    expect(large.largest).toBeLessThan(600);
    expect(large.events.length).toBeLessThan(2.1 * 10_000);
  });

  it('writes as little for a member as one of 100 does', () => {
    const perMember = ({ events }: Run, size: number): number => {
      const ofMembers = events.filter(({ data }) => (data as { path?: string }).path?.startsWith('0.0.'));
      return JSON.stringify(ofMembers).length / size;
    };
    // Paths and values of four digits instead of two.
    expect(perMember(large, 10_000)).toBeLessThan(1.1 * perMember(runChord(100), 100));
  });
});

describe('a group of 1,000 that is undone', () => {
  const step = (name: string | number) => task(Do, { with: name }).compensateWith(task(Undo, { with: name }));
  const failed = (): Run => {
    const run = new Run(chain(step('first'), group(...numbers(1_000).map(step)), step('last')));
    run.answerAll(Do, 'last');
    return run;
  };

  it('is so side by side and in parts: after the step behind it, and before the one in front of it', () => {
    const run = failed();
    expect(run.openWith(Undo)).toEqual(['last']);
    run.largest = 0;
    const before = run.events.length;
    run.answerAll(Undo, undefined, 1);
    expect(run.openWith(Undo).sort()).toEqual(numbers(1_000).sort());
    expect(run.largest).toBeGreaterThan(400);
    expect(run.largest).toBeLessThan(600);
    // Its success, the requests, and the timers between the parts.
    expect(run.events.length - before).toBe(1 + 1_000 + 2);
    expect(run.events.slice(before).filter(({ type }) => type === TimerSet.type)).toHaveLength(2);
    run.answerAll(Undo, undefined, 1_000);
    expect(run.openWith(Undo)).toEqual(['first']);
    run.answerAll(Undo);
    expect(run.state.status).toBe('failed');
  });

  it('undoes 999 of them when one cannot be, and goes on as soon as that is resolved', () => {
    const run = failed();
    run.answerAll(Undo, 500);
    const undone = run.ofType(TaskRequested).filter(({ data }) => (data as { purpose: string }).purpose !== 'run');
    expect(undone).toHaveLength(1_001);
    expect(run.openWith(Undo)).toEqual([]);
    expect(run.ofType(WorkflowStuck).map(({ data }) => data)).toEqual([
      {
        workflowId,
        path: '0.1.500',
        reason: 'the compensation of 0.1.500 large.do failed: cannot; it ran because 0.2 large.do failed: cannot',
      },
    ]);
    const { requestId } = undone.find(({ data }) => (data as { path: string }).path === '0.1.500')?.data as {
      requestId: string;
    };
    run.send(ResolveRequest.of({ workflowId, requestId, remedy: 'succeed', reason: 'undone by hand' }));
    expect(run.openWith(Undo)).toEqual(['first']);
    run.answerAll(Undo);
    expect(run.events.at(-1)).toMatchObject({ type: WorkflowFailed.type });
  });
});
