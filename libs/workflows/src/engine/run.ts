import { TimerSet } from '@starter/contracts';
import type { Decision, Rejection } from '@starter/event-sourcing';
import type { WorkflowLimits } from '../definition/limits.js';
import { evolution } from './evolution.js';
import { timerIdOf, type Timer } from './timers.js';
import type { StartedWorkflow } from './workflow.state.js';

export type Events = Exclude<Decision, Rejection>;

/** What remains to be done with a node. */
export type Step =
  | { readonly do: 'enter'; readonly path: string }
  | { readonly do: 'leave'; readonly path: string }
  | { readonly do: 'fail'; readonly path: string; readonly reason: string };

/**
 * One decision in the making: the events so far, and the state after them. What remains to be done waits on the agenda instead
 * of the call stack, which a long chain of steps that end at once would overflow.
 */
export class Run {
  readonly events: Events[number][] = [];
  readonly agenda: Step[] = [];
  /** The root node has ended well. */
  rootLeft = false;
  /** It is this decision that goes on with what did not fit in one transaction. */
  goesOn = false;
  /** What it revokes ends at once. */
  terminates = false;

  state: StartedWorkflow;

  constructor(
    readonly before: StartedWorkflow,
    readonly limits: WorkflowLimits,
  ) {
    this.state = before;
  }

  /** What is left waits for a message of its own. */
  get isFull(): boolean {
    const { before, state, events, limits } = this;
    return events.length >= limits.part.events || state.spent.bytes - before.spent.bytes >= limits.part.bytes;
  }

  emit(event: Events[number]): void {
    this.events.push(event);
    const { definition, data } = event;
    const recorded = { type: definition.type, data, sequence: 0, time: new Date(0) };
    this.state = evolution.get(definition.type)?.evolve(this.state, recorded as never) as StartedWorkflow;
  }

  setTimer(timer: Timer, delayMs: number): void {
    const path = 'path' in timer ? timer.path : '';
    this.emit(TimerSet.of({ workflowId: this.state.workflowId, timerId: timerIdOf(timer), path, delayMs }));
  }
}
