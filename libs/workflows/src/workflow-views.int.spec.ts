import { newMessageId } from '@starter/messaging';
import type { RunningService } from '@starter/service';
import { eventually, ServiceBackends } from '@starter/testing';
import { orchestrator } from '@starter/orchestrator';
import type { Json } from './definition/definition.js';
import type { WorkflowView } from './workflow.view.js';

let backends: ServiceBackends;
let service: RunningService;

beforeAll(async () => {
  backends = await ServiceBackends.open();
  // Nobody answers an export.
  await backends.answer(['user.activate', 'user.deactivate'], ({ type }) =>
    type === 'user.activate' ? [{ result: { userId } }] : [{ failure: 'not now' }],
  );
  service = await backends.start(orchestrator);
});
afterAll(async () => {
  await service?.stop();
  await backends?.close();
});

const [userId, other] = [newMessageId(), newMessageId()];
const activate = { kind: 'task', command: 'user.activate', version: 1, key: 'userId', input: { userId } };
const silent = { kind: 'task', command: 'user.export', version: 1, input: {} };
const read = async (id: string, query = ''): Promise<WorkflowView> => {
  const response = await fetch(`${service.url}/workflows/${id}${query}`);
  const body = (await response.json()) as WorkflowView;
  expect({ status: response.status, body }).toMatchObject({ status: 200 });
  return body;
};
const begin = async (definition: Json, input: Json = {}): Promise<string> => {
  const response = await fetch(`${service.url}/workflows`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ workflow: 'viewed', definition, input }),
  });
  const body = (await response.json()) as { workflowId: string };
  expect({ status: response.status, body }).toMatchObject({ status: 202 });
  return body.workflowId;
};
const inMinutes = (instant: string | undefined): number =>
  Math.round((Date.parse(instant ?? '') - Date.now()) / 60_000);

it('shows what a workflow waits for, and until when', async () => {
  const deactivate = { ...activate, command: 'user.deactivate', input: { userId, reason: 'spec' } };
  const id = await begin({
    kind: 'group',
    timeout: '1h',
    members: [
      { ...silent, timeout: '10m' },
      silent,
      { kind: 'waitForEvent', event: 'user.verified', match: { userId }, timeout: '20m' },
      { kind: 'waitForEvent', event: 'user.verified', match: { userId: other } },
      { kind: 'chain', steps: [{ kind: 'sleep', duration: '40m' }, silent], timeout: '50m' },
      { kind: 'forEach', items: [1, 2, 3], body: { ...silent, rateLimit: '2/h' } },
      { ...deactivate, retry: { attempts: 2, backoff: { first: '15m' } } },
    ],
  });
  await eventually(async () => expect((await read(id)).requests).toMatchObject({ requested: 3, failed: 1 }));
  const { steps, waits, timers } = await read(id);
  const minutesOf = (deadline: string | undefined) => deadline && inMinutes(deadline);
  expect(steps.map(({ path, state, attempt, deadline }) => [path, state, attempt, minutesOf(deadline)])).toEqual([
    ['0.0', 'requested', 1, 10],
    ['0.1', 'requested', 1, undefined],
    ['0.5.0', 'requested', 1, undefined],
    ['0.6', 'failed', 1, undefined],
  ]);
  for (const { state, requestedAt, ageSeconds } of steps) {
    expect(Date.parse(requestedAt)).toBeGreaterThan(Date.now() - 60_000);
    if (state === 'requested') expect(ageSeconds).toBeGreaterThanOrEqual(0);
  }
  expect(waits.map(({ deadline, ...wait }) => ({ ...wait, minutes: minutesOf(deadline) }))).toEqual([
    { path: '0.2', kind: 'waitForEvent', event: 'user.verified', match: { userId }, minutes: 20 },
    { path: '0.3', kind: 'waitForEvent', event: 'user.verified', match: { userId: other }, minutes: undefined },
    { path: '0.4.0', kind: 'sleep', minutes: 40 },
  ]);
  expect(timers.map(({ dueAt, ...timer }) => ({ ...timer, minutes: inMinutes(dueAt) }))).toEqual([
    { kind: 'retry', path: '0.6', attempt: 2, minutes: 15 },
    { kind: 'limit', limit: 'user.export 2/h', waiting: 2, minutes: 30 },
    { kind: 'deadline', path: '0.4', minutes: 50 },
    { kind: 'deadline', path: '0', minutes: 60 },
  ]);
});

it('shows no wait and no timer of what is over, though their rows are still there', async () => {
  const { dataSource } = service.messaging;
  const wait = { kind: 'waitForEvent', event: 'user.verified', match: { userId: newMessageId() }, timeout: '1h' };
  const id = await begin({
    kind: 'chain',
    steps: [
      { kind: 'group', policy: { minSuccess: 1 }, members: [{ ...activate, timeout: '1h' }, wait] },
      { kind: 'sleep', duration: '2h' },
    ],
  });
  await eventually(async () => expect((await read(id)).waits).toMatchObject([{ path: '0.0.1' }]));
  const cancelled = await fetch(`${service.url}/workflows/${id}/cancel`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ reason: 'spec', path: '0.0.1' }),
  });
  expect(cancelled.status).toBe(202);
  await eventually(async () => expect((await read(id)).waits).toMatchObject([{ path: '0.1', kind: 'sleep' }]));
  const rows = await dataSource.query('SELECT timer_id FROM workflow_timer WHERE workflow_id = $1', [id]);
  expect(rows).toHaveLength(3);
  expect((await read(id)).timers).toEqual([]);
});

it('answers of a chord of 3,000 by pages of bounded size, with counts for the rest', async () => {
  const items = Array.from({ length: 3_000 }, (_, n) => n);
  const id = await begin({ kind: 'chain', steps: [{ kind: 'forEach', items, body: activate }, silent] });
  await eventually(async () => expect((await read(id)).requests).toMatchObject({ requested: 1, succeeded: 3_000 }), {
    timeoutMs: 120_000,
    everyMs: 250,
  });
  const paths: string[] = [];
  let after = '';
  for (let pages = 1; ; pages += 1) {
    const response = await fetch(`${service.url}/workflows/${id}?limit=1000${after}`);
    const text = await response.text();
    expect(text.length).toBeLessThan(1_000_000);
    const { steps, next, groups } = JSON.parse(text) as WorkflowView;
    paths.push(...steps.map(({ path }) => path));
    expect(groups).toEqual([{ path: '0.0', size: 3_000, begun: 3_000, succeeded: 3_000, failed: 0 }]);
    if (next === undefined) break;
    expect(pages).toBeLessThan(20);
    after = `&after=${next}`;
  }
  expect(new Set(paths).size).toBe(3_001);
  const first = await read(id);
  expect(first.steps).toHaveLength(100);
  expect(first.steps[7]?.result).toEqual({ userId });
  expect(Object.keys(first.results).sort()).toEqual(first.steps.map(({ path }) => path).sort());
  expect((await read(id, '?state=requested')).steps).toMatchObject([{ path: '0.1', command: 'user.export' }]);
  expect((await fetch(`${service.url}/workflows/${id}?limit=1001`)).status).toBe(400);
  expect((await fetch(`${service.url}/workflows/${id}?after=x`)).status).toBe(400);
}, 150_000);
