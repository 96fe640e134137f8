import { z } from 'zod';
import type { Json } from './definition/definition.js';
import { sizeOf } from './definition/json-size.js';
import type { Request, StartedWorkflow } from './engine/workflow.state.js';

export const stepStates = ['requested', 'succeeded', 'failed', 'timedOut'] as const;

/** A command that was sent, and what came of it. */
export const step = z.object({
  path: z.string(),
  purpose: z.enum(['run', 'compensate']),
  command: z.string(),
  /** Also the id of the command's message. */
  requestId: z.uuid(),
  state: z.enum(stepStates),
  /** 1 for the first. */
  attempt: z.number(),
  result: z.unknown().optional(),
  reason: z.string().optional(),
  /** The service that has the command was told that it is not needed any more. */
  revoked: z.literal(true).optional(),
  /** … and to end it at once. */
  terminated: z.literal(true).optional(),
  /** An operator has said what came of it. */
  resolved: z.literal(true).optional(),
  requestedAt: z.iso.datetime(),
  /** How long it has been open, in seconds; only of one that nobody has answered. */
  ageSeconds: z.number().optional(),
  /** When it fails unless somebody has answered; none without a timeout. */
  deadline: z.iso.datetime().optional(),
  /** Only while nobody has answered: the service that has the command says that it waits for an operator. */
  held: z
    .object({
      service: z.string(),
      status: z.enum(['dead-letter', 'redriven']),
      reason: z.string(),
      since: z.iso.datetime(),
    })
    .optional(),
});
export type StepView = z.output<typeof step>;

/** Which of the steps of a workflow, in the order of sending. */
export interface StepsWanted {
  readonly limit: number;
  /** Number of the last one of the page before. */
  readonly after?: number | undefined;
  readonly state?: (typeof stepStates)[number] | undefined;
}

export interface StepsPage {
  readonly requests: readonly Request[];
  /** Number of the last one; none when nothing follows. */
  readonly next?: number;
}

/** Of the results on a page together, as JSON; a page has one step at least. */
const mostBytes = 1_000_000;

/** Costs a look at each request, and puts together only those of the page. */
export function pageOfSteps(state: StartedWorkflow, { limit, after = -1, state: wanted }: StepsWanted): StepsPage {
  const following: Request[] = [];
  for (const request of state.requests.values()) {
    if (request.number > after && (wanted === undefined || request.state === wanted)) following.push(request);
  }
  following.sort((one, other) => one.number - other.number);
  let bytes = 0;
  const requests = following.slice(0, limit);
  const tooLarge = requests.findIndex((request, index) => {
    bytes += sizeOf(resultOfStep(state, request) ?? null);
    return index > 0 && bytes > mostBytes;
  });
  if (tooLarge > 0) requests.length = tooLarge;
  const last = requests.at(-1);
  return { requests, ...(last && requests.length < following.length ? { next: last.number } : {}) };
}

/**
 * What nodes have led to, by path: all of them while they are few, else those of the steps on the page.
 * @param most of all nodes
 */
export function resultsBeside(state: StartedWorkflow, { requests }: StepsPage, most: number): Record<string, Json> {
  const { results } = state;
  let bytes = 0;
  const areFew = results.size <= most && results.every((result) => (bytes += sizeOf(result)) <= mostBytes);
  if (areFew) return results.toObject();
  const paths = new Set(requests.filter(({ purpose }) => purpose === 'run').map(({ path }) => path));
  return Object.fromEntries(
    [...paths].flatMap((path) => {
      const result = results.get(path);
      return result === undefined ? [] : [[path, result]];
    }),
  );
}

export function stepOf(state: StartedWorkflow, request: Request, deadline: Date | undefined): StepView {
  const { number: _, requestedAt, held, ...known } = request;
  const isOpen = known.state === 'requested';
  const result = resultOfStep(state, request);
  return {
    ...known,
    requestedAt: new Date(requestedAt).toISOString(),
    ...(isOpen ? { ageSeconds: Math.max(0, Math.round((Date.now() - requestedAt) / 1_000)) } : {}),
    ...(deadline ? { deadline: deadline.toISOString() } : {}),
    ...(isOpen && held ? { held } : {}),
    ...(result === undefined ? {} : { result }),
  };
}

function resultOfStep({ results }: StartedWorkflow, { result, state, purpose, path }: Request): Json | undefined {
  if (result !== undefined) return result;
  return state === 'succeeded' && purpose === 'run' ? results.get(path) : undefined;
}
