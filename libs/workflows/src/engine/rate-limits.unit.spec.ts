import { defineCommand, StartWorkflow, TaskRequested, TimerFired, TimerSet, type DataOf } from '@starter/contracts';
import { converse, type Conversation } from '@starter/testing';
import { z } from 'zod';
import { chain, fixed, forEach, group, task, workflow, type AnyDraft } from '../definition/builder.js';
import { readDefinition } from '../definition/check-definition.js';
import type { Ref } from '../definition/typed-reference.js';
import { workflowInstance } from './workflow.decider.js';
import type { WorkflowState } from './workflow.state.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const Do = defineCommand('spec.do', { version: 1, owner: 'spec', schema: z.object({ n: z.json() }) });
const input = z.object({ list: z.array(z.number()) });
type Run = Conversation<WorkflowState>;

function begin(build: (own: Ref<z.input<typeof input>>) => AnyDraft, size = 1_000): Run {
  const { definition } = workflow('limited', { input }, build);
  const list = Array.from({ length: size }, (_, n) => n);
  return converse(workflowInstance, workflowId).when(
    StartWorkflow.of({ workflowId, workflow: 'limited', definition, input: { list } }),
  );
}

const requestsOf = ({ events }: Run) =>
  events.flatMap(({ type, data }) => (type === TaskRequested.type ? [data as DataOf<typeof TaskRequested>] : []));
const timersOf = ({ events }: Run, kind: string) =>
  events.flatMap(({ type, data }) => {
    const timer = data as DataOf<typeof TimerSet>;
    return type === TimerSet.type && timer.timerId.startsWith(kind) ? [timer] : [];
  });

/** Lets time pass: fires each timer of a kind once, the first set first, until none is set any more. */
function fireAll(run: Run, kind: string, after: () => void = () => undefined): number[] {
  const delays: number[] = [];
  for (let timer = timersOf(run, kind)[0]; timer; timer = timersOf(run, kind)[delays.length]) {
    delays.push(timer.delayMs);
    run.when(TimerFired.of({ workflowId, timerId: timer.timerId }));
    after();
  }
  return delays;
}

it.each([
  ['a forEach', (own: Ref<z.input<typeof input>>) => forEach(own.list, (n) => task(Do, { n }).rateLimit('100/h'))],
  ['a group', () => group(...Array.from({ length: 1_000 }, (_, n) => task(Do, { n }).rateLimit('100/h')))],
])('requests 1,000 tasks of %s at 100 an hour, each once and in order', (_, build) => {
  const run = begin(build);
  fireAll(run, 'part/');
  expect(requestsOf(run)).toHaveLength(1);
  let before = 1;
  const delays = fireAll(run, 'limit/', () => {
    const { length } = requestsOf(run);
    expect(length - before).toBeLessThanOrEqual(1);
    before = length;
  });
  // One timer for each task, 36 s from one to the next: nobody asks in between.
  expect(delays).toEqual(Array<number>(1_000).fill(36_000));
  expect(requestsOf(run).map(({ path }) => path)).toEqual(Array.from({ length: 1_000 }, (_, n) => `0.${n}`));
  for (let n = 0; n < 1_000; n += 1) run.whenSucceeded(Do, n);
  expect(run.state.status).toBe('completed');
});

it('lets the tasks of about a second go together, and one at once after a rest', () => {
  const run = begin((own) => forEach(own.list, (n) => task(Do, { n }).rateLimit('90/m')), 5);
  expect(requestsOf(run)).toHaveLength(2);
  expect(fireAll(run, 'limit/')).toEqual([1334, 1334, 1334]);
  expect(requestsOf(run)).toHaveLength(5);

  const rested = begin(() => chain(task(Do, { n: 1 }).rateLimit('1/h'), task(Do, { n: 2 }).rateLimit('1/h')));
  rested.when(TimerFired.of({ workflowId, timerId: 'limit/1/spec.do 1/h' }));
  rested.whenSucceeded(Do);
  expect(requestsOf(rested)).toHaveLength(2);
  expect(timersOf(rested, 'limit/').map(({ timerId }) => timerId)).toEqual([
    'limit/1/spec.do 1/h',
    'limit/2/spec.do 1/h',
  ]);
});

it('counts the attempts of a task, and sends none that is not needed any more', () => {
  const limited = (n: number) =>
    task(Do, { n })
      .rateLimit('1/h')
      .timeout('1s')
      .retry({ attempts: 2, backoff: fixed('1s') });
  const run = begin(() => group(limited(1), limited(2)));
  run.when(TimerFired.of({ workflowId, timerId: 'timeout/0.0/run/1' }));
  run.when(TimerFired.of({ workflowId, timerId: 'retry/0.0/run/2' }));
  run.when(TimerFired.of({ workflowId, timerId: 'retry/0.0/run/2' })).thenNothing();
  expect(requestsOf(run).map(({ path, attempt }) => [path, attempt])).toEqual([['0.0', 1]]);
  run.whenSucceeded(Do, 'late, and not too late');
  fireAll(run, 'limit/');
  expect(requestsOf(run).map(({ path, attempt }) => [path, attempt])).toEqual([
    ['0.0', 1],
    ['0.1', 1],
  ]);
  run.whenSucceeded(Do);
  expect(run.state.status).toBe('completed');
});

it.each([
  ['1000/s', '1000/s is faster than 500/s; leave out the rate limit'],
  ['often', '"often" is no rate limit; write how many per s, m, h or d'],
])('refuses the limit %s', (rateLimit, message) => {
  const node = { kind: 'task', command: 'spec.do', version: 1, input: {}, rateLimit };
  const read = readDefinition({ kind: 'chain', steps: [node] });
  expect('problems' in read && read.problems.join()).toContain(`steps.0.rateLimit: ${message}`);
});
