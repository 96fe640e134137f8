import { StartWorkflow } from '@starter/contracts';
import { newMessageId, toMessage } from '@starter/messaging';
import type { RunningService } from '@starter/service';
import { eventually, sealedText, ServiceBackends } from '@starter/testing';
import { DataSource } from 'typeorm';
import { orchestrator } from '@starter/orchestrator';
import type { Json } from './definition/definition.js';

let backends: ServiceBackends;
let service: RunningService;

beforeAll(async () => {
  backends = await ServiceBackends.open();
  // Activates, and cannot deactivate.
  await backends.answer(['user.activate', 'user.deactivate', 'email.send'], ({ type, data }) =>
    type === 'user.activate' ? [{ result: data }] : [{ failure: 'the service is closed' }],
  );
  service = await backends.start(orchestrator);
});
afterAll(async () => {
  await service?.stop();
  await backends?.close();
});

const userId = newMessageId();
const request = async (path: string, body?: unknown, headers: Record<string, string> = {}) => {
  const init = {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  };
  const response = await fetch(`${service.url}/workflows${path}`, body === undefined ? {} : init);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
};
const activate = (input: Json = { userId: { $ref: 'input.userId' } }) => {
  return { kind: 'task', command: 'user.activate', version: 1, key: 'userId', input };
};
const deactivate = { ...activate({ userId, reason: 'spec' }), command: 'user.deactivate' };
const begin = async (definition: unknown, headers?: Record<string, string>) => {
  const { status, body } = await request('', { workflow: 'mine', definition, input: { userId } }, headers);
  expect({ status, body }).toMatchObject({ status: 202 });
  return body['workflowId'] as string;
};
const until = (id: string, state: string) =>
  eventually(async () => expect((await request(`/${id}`)).body).toMatchObject({ state }));

it('runs a workflow from its definition as JSON, once for an Idempotency-Key', async () => {
  const key = { 'idempotency-key': 'one' };
  const definition = { kind: 'chain', steps: [activate(), activate()] };
  const [id, again] = [await begin(definition, key), await begin(definition, key)];
  expect(again).toBe(id);
  await until(id, 'completed');
  expect((await request(`/${id}`)).body).toMatchObject({ name: 'mine', results: { '0.1': { userId } } });
  const other = await request('', { workflow: 'mine', definition: activate(), input: { userId } }, key);
  expect(other.status).toBe(422);
});

it('refuses what would lead to an event that is too large, at the edge and behind it, and goes on', async () => {
  const text = 'x'.repeat(1_000_000);
  const large = { workflow: 'mine', definition: activate(), input: { userId, text } };
  const { status, body } = await request('', large);
  expect({ status, body }).toMatchObject({
    status: 413,
    body: { detail: expect.stringContaining('998000 are allowed') },
  });
  const workflowId = newMessageId();
  const draft = StartWorkflow.of({ workflowId, ...large });
  const message = toMessage(draft, { source: 'spec' });
  await backends.commands.send(message);
  await eventually(async () =>
    expect(await service.messaging.deadLetters.list()).toMatchObject({
      items: [{ id: message.id, reason: expect.stringContaining('events of at most 1000000 can be published') }],
    }),
  );
  await until(await begin(activate()), 'completed');
  await eventually(async () =>
    expect(await service.messaging.dataSource.query('SELECT count(*)::int FROM outbox')).toEqual([{ count: 0 }]),
  );
});

it('publishes the schema of definitions', async () => {
  expect((await request('/definition-schema')).body).toMatchObject({ $schema: expect.any(String) as string });
});

const mail = (input: Json): Json => ({ kind: 'task', command: 'email.send', version: 1, input });
it.each<[string, unknown, string]>([
  ['no tree', 'chain', 'root: '],
  ['an unknown command', { ...activate(), command: 'user.praise' }, '0 user.praise: the command is unknown'],
  ['an unknown version', { ...activate(), version: 7 }, '0 user.activate: v7 is unknown; the contract has v1'],
  ['a wrong type', activate({ userId: 7 }), '0 user.activate.userId: Invalid input: expected string'],
  ['an unknown field', activate({ userId, role: 'x' }), '0 user.activate: Unrecognized key: "role"'],
  ['a missing field', mail({ template: 'welcome', variables: {} }), '0 email.send.to: '],
  [
    'a wrong value from the input',
    mail({ to: { $ref: 'input.userId' }, template: 'welcome', variables: {} }),
    '0 email.send.to: must be sealed',
  ],
  [
    'a value that the input lacks',
    activate({ userId: { $ref: 'input.id' } }),
    '0 user.activate.userId: "input.id" has no value; there is no field "id"; pass it in the input',
  ],
  [
    'an unknown event',
    { kind: 'waitForEvent', event: 'user.praised', match: { userId } },
    '0 waitForEvent: the event user.praised is unknown',
  ],
  [
    'a cycle',
    { kind: 'chain', steps: [activate({ userId: { $ref: 'results.0.0' } })] },
    '"results.0.0" is not known when 0.0 starts',
  ],
  ['a duration of −1', { kind: 'sleep', duration: '-1s' }, 'duration: a duration is a whole number with a unit'],
  [
    'a large group',
    { kind: 'group', members: Array<null>(20_000).fill(null) },
    '0 group: 20000 members, and 10000 are allowed',
  ],
])('refuses %s, and names the place', async (_, definition, message) => {
  const { status, body } = await request('', { workflow: 'mine', definition, input: { userId } });
  expect(status).toBe(400);
  const { errors } = body as { errors: { field: string; message: string }[] };
  expect(errors.map(({ field }) => field)).toContain('definition');
  expect(errors.map((error) => error.message).join('\n')).toContain(message);
});

it('accepts what can only be known when it runs', async () => {
  const variables = { name: { $ref: 'results.0.0.userId' } };
  const steps = [activate(), mail({ to: sealedText('ada@example.com', 'email'), template: 'welcome', variables })];
  await begin({ kind: 'chain', steps });
});

it('refuses 50 MB and what is nested without end, and goes on', async () => {
  const large = await request('', { workflow: 'mine', definition: 'x'.repeat(50_000_000), input: {} }).catch(
    () => undefined,
  );
  if (large)
    expect(large).toMatchObject({ status: 413, body: { detail: expect.stringContaining('send less') as string } });
  const nested = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
  for (const body of [
    `{"workflow":"mine","definition":${nested},"input":{}}`,
    `{"workflow":"mine","definition":{"kind":"sleep","duration":"1s"},"input":{"a":${nested}}}`,
  ]) {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${service.url}/workflows`, { method: 'POST', headers, body });
    expect(response.status).toBe(400);
    expect(await response.text()).toContain('nested too deep');
  }
  await begin({ kind: 'sleep', duration: '1ms' });
});

it('refuses the name of a workflow of the service for another definition', async () => {
  const { status, body } = await request('', {
    workflow: 'user-onboarding',
    definition: activate(),
    input: { userId },
  });
  expect({ status, body }).toMatchObject({ status: 400, body: { errors: [{ field: 'workflow' }] } });
});

it('cancels what runs, and refuses to cancel what is over', async () => {
  const id = await begin({ kind: 'chain', steps: [activate(), { kind: 'sleep', duration: '1h' }] });
  await until(id, 'running');
  expect(await request(`/${id}/cancel`, { reason: 'nobody needs it' })).toMatchObject({ status: 202 });
  await until(id, 'failed');
  expect((await request(`/${id}`)).body).toMatchObject({ reason: 'cancelled: nobody needs it' });
  expect(await request(`/${id}/cancel`, { reason: 'again' })).toMatchObject({
    status: 409,
    body: { detail: 'It cannot be cancelled: the workflow is failed and cannot be cancelled any more.' },
  });
  expect((await request(`/${newMessageId()}/cancel`, { reason: 'x' })).status).toBe(404);
  expect((await request(`/${id}/cancel`, {})).status).toBe(400);
});

it('cancels one task, and forks a workflow that is over from a step on', async () => {
  const id = await begin({ kind: 'chain', steps: [activate(), { kind: 'sleep', duration: '1h' }, activate()] });
  await eventually(async () =>
    expect((await request(`/${id}`)).body).toMatchObject({ results: { '0.0': { userId } } }),
  );
  expect((await request(`/${id}/fork`, { from: '0.1' })).status).toBe(409);
  expect((await request(`/${id}/cancel`, { reason: 'too long', path: '0.2' })).status).toBe(409);
  expect((await request(`/${id}/cancel`, { reason: 'too long', path: '0.1' })).status).toBe(202);
  await until(id, 'failed');
  expect((await request(`/${id}`)).body).toMatchObject({ reason: '0.1 sleep was cancelled: too long' });
  expect((await request(`/${id}/fork`, { from: '0.2' })).status).toBe(409);
  expect((await request(`/${id}/fork`, { from: 'two' })).status).toBe(400);
  const key = { 'idempotency-key': 'fork-1' };
  const { status, body } = await request(`/${id}/fork`, { from: '0.1' }, key);
  expect(status).toBe(202);
  const fork = body['workflowId'] as string;
  expect(await request(`/${id}/fork`, { from: '0.1' }, key)).toEqual({ status, body });
  expect((await request(`/${id}/fork`, { from: '0.0' }, key)).status).toBe(422);
  expect((await request(`/${id}`)).body).toMatchObject({ forks: [{ workflowId: fork, from: '0.1' }] });
  await until(fork, 'running');
  expect((await request(`/${fork}`)).body).toMatchObject({ steps: [], results: { '0.0': { userId } } });
});

it('goes on with a workflow that is stuck as the operator says, at the place that is named', async () => {
  const failing = mail({ to: sealedText('ada@example.com', 'email'), template: 'welcome', variables: {} });
  const id = await begin({ kind: 'chain', steps: [{ ...activate(), compensateWith: deactivate }, failing] });
  await until(id, 'stuck');
  expect(await request(`/${id}/unstick`, { path: '0.1', remedy: 'skip' })).toMatchObject({
    status: 409,
    body: { detail: 'There is nothing to skip: the workflow is stuck at 0.0, and not stuck at 0.1.' },
  });
  expect((await request(`/${id}/unstick`, { path: '0.0', remedy: 'pray' })).status).toBe(400);
  expect((await request(`/${id}/unstick`, { path: '0.0', remedy: 'skip' })).status).toBe(202);
  await until(id, 'failed');
  expect((await request(`/${id}/unstick`, { path: '0.0', remedy: 'skip' })).status).toBe(409);
});

it('takes what an operator says for the answer to a request, of a task and of a compensation', async () => {
  const silent = { kind: 'task', command: 'user.export', version: 1, input: {} };
  const steps = [{ ...silent, compensateWith: silent }, activate({ userId })];
  const id = await begin({ kind: 'chain', steps: [...steps, { ...silent, retry: { attempts: 3 } }] });
  const openRequest = async () => {
    const { steps } = (await request(`/${id}`)).body as { steps: { requestId: string; state: string }[] };
    return steps.find(({ state }) => state === 'requested')?.requestId ?? '';
  };
  const resolve = async (body: object, requestId?: string) =>
    request(`/${id}/requests/${requestId ?? (await openRequest())}/resolve`, body);
  expect((await resolve({ remedy: 'pray' })).status).toBe(400);
  expect((await resolve({ remedy: 'fail', result: 1 })).status).toBe(400);
  expect(await resolve({ remedy: 'skip' }, newMessageId())).toMatchObject({ status: 409 });
  const first = await openRequest();
  expect(await resolve({ remedy: 'succeed', result: { file: 'by hand' } })).toMatchObject({ status: 202 });
  expect(await resolve({ remedy: 'skip' }, first)).toMatchObject({
    status: 409,
    body: { detail: 'It cannot be resolved: the request has succeeded; there is nothing to resolve.' },
  });
  await eventually(async () =>
    expect((await request(`/${id}`)).body).toMatchObject({ results: { '0.1': { userId } } }),
  );
  expect((await resolve({ remedy: 'retry' })).status).toBe(202);
  expect((await resolve({ remedy: 'fail', reason: 'the disk is full' })).status).toBe(202);
  await until(id, 'compensating');
  expect((await resolve({ remedy: 'skip' })).status).toBe(202);
  await until(id, 'failed');
  const { body } = await request(`/${id}`);
  expect(body).toMatchObject({
    reason: '0.2 user.export failed: the disk is full',
    results: { '0.0': { file: 'by hand' } },
    steps: [
      { path: '0.0', state: 'succeeded', resolved: true, revoked: true },
      { path: '0.1', state: 'succeeded' },
      { path: '0.2', attempt: 1, state: 'failed', resolved: true },
      { path: '0.2', attempt: 2, state: 'failed', resolved: true },
      { path: '0.0', purpose: 'compensate', state: 'failed', resolved: true },
    ],
  });
});

it('answers with the result as soon as there is one, also to who has asked before the start', async () => {
  const soon = await begin({ kind: 'chain', steps: [{ kind: 'sleep', duration: '500ms' }, activate()] });
  expect(await request(`/${soon}/result?timeout=30s`)).toEqual({
    status: 200,
    body: { id: soon, state: 'completed', result: { userId } },
  });
  const later = await begin({ kind: 'sleep', duration: '1h' });
  await until(later, 'running');
  expect((await request(`/${later}/result`)).body).toEqual({ id: later, state: 'running' });
  expect((await request(`/${later}/result?timeout=10m`)).status).toBe(400);
  expect((await request(`/${newMessageId()}/result?timeout=1ms`)).status).toBe(404);
});

it('streams how far a workflow has come, until it is over', async () => {
  const id = await begin({ kind: 'chain', steps: [activate(), { kind: 'sleep', duration: '1s' }, activate()] });
  await until(id, 'running');
  const response = await fetch(`${service.url}/workflows/${id}/events`);
  expect(response.headers.get('content-type')).toContain('text/event-stream');
  // It ends by itself.
  const told = (await response.text()).split('\n').filter((line) => line.startsWith('data: '));
  const states = told.map((line) => JSON.parse(line.slice(6)) as { state: string; requests: { succeeded: number } });
  expect(states.at(0)).toMatchObject({ state: 'running' });
  expect(states.at(-1)).toMatchObject({ state: 'completed', requests: { succeeded: 2 } });
  expect(new Set(told).size).toBe(told.length);
  expect((await fetch(`${service.url}/workflows/${newMessageId()}/events`)).status).toBe(404);
});

it('answers what came of a workflow that is over without its events', async () => {
  const id = await begin({ kind: 'forEach', items: [1, 2], body: activate() });
  await until(id, 'completed');
  await service.app.get(DataSource).query('DELETE FROM event WHERE stream_id = $1', [`workflow-${id}`]);
  const result = [{ userId }, { userId }];
  expect((await request(`/${id}/result`)).body).toEqual({ id, state: 'completed', result });
  const { url } = service;
  const stream = await fetch(`${url}/workflows/${id}/events`, { headers: { accept: 'text/event-stream' } });
  expect(await stream.text()).toMatch(/"state":"completed".*"size":2.*"requests":\{[^}]*"succeeded":2/);
  expect((await request(`/${id}`)).status).toBe(404);
});
