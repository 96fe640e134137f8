import { UserRegistered, UserVerified, WorkflowCompleted } from '@starter/contracts';
import { done, maskSealed, newMessageId, toMessage, type Message } from '@starter/messaging';
import type { RunningService } from '@starter/service';
import { eventually, sealedText, ServiceBackends } from '@starter/testing';
import { orchestrator } from './index.js';

const refused = 'nobody@example.com';
let backends: ServiceBackends;
let service: RunningService;

beforeAll(async () => {
  backends = await ServiceBackends.open();
  // The orchestrator waits for the topics of others; their owners declare them.
  await backends.events.declare([{ name: 'user-service.events', partitions: 4 }]);
  // The two services that the onboarding needs; like the real ones they may answer twice.
  await backends.answer(['email.send', 'user.activate', 'user.deactivate'], ({ type, data }) => {
    const { to } = data as { to?: string };
    const answer = to === sealedText(refused, 'email') ? { failure: '550 no such user' } : { result: { done: type } };
    return [answer, answer];
  });
  service = await backends.start(orchestrator);
});
afterAll(async () => {
  await service?.stop();
  await backends?.close();
});

const inputFor = (email: string) => ({
  userId: newMessageId(),
  email: sealedText(email, 'email'),
  name: sealedText('Ada'),
  verificationToken: sealedText('token', 'verificationToken'),
  registeredAt: '2026-01-02T03:04:05.678Z',
});
const post = (body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${service.url}/workflows`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
interface Answer {
  readonly workflows: { readonly id: string }[];
  readonly next?: string;
  readonly input: unknown;
}
const get = async (path: string) => {
  const response = await fetch(service.url + path);
  return { status: response.status, body: (await response.json()) as Answer };
};
const until = (id: string, state: string) =>
  eventually(async () => expect((await get(`/workflows/${id}`)).body).toMatchObject({ state }));
/** The user verifies the address as soon as the workflow runs. */
const verified = async (workflowId: string, userId: string, sequence = 1): Promise<void> => {
  await eventually(async () => expect((await get(`/workflows/${workflowId}`)).status).toBe(200));
  const envelope = { source: 'user-service', subject: `user-${userId}`, sequence };
  await backends.events.publish('user-service.events', [toMessage(UserVerified.of({ userId }), envelope)]);
};
const started = async (email: string): Promise<string> => {
  const input = inputFor(email);
  const response = await post({ workflow: 'user-onboarding', input });
  expect(response.status).toBe(202);
  const { workflowId } = (await response.json()) as { workflowId: string };
  await verified(workflowId, input.userId);
  return workflowId;
};
const publishedOf = (type: string) => {
  const messages: Message[] = [];
  return backends.events
    .subscribe({ topic: 'orchestrator.events', group: `spec-${newMessageId()}` }, async ({ message }) => {
      if (message.type === type) messages.push(message);
      return done;
    })
    .then(() => messages);
};

it('runs a workflow that was asked for over HTTP and tells every step', async () => {
  const completed = await publishedOf(WorkflowCompleted.type);
  const id = await started('ada@example.com');
  await until(id, 'completed');
  const { body } = await get(`/workflows/${id}`);
  expect(body).toMatchObject({
    id,
    name: 'user-onboarding',
    input: { email: maskSealed(sealedText('ada@example.com', 'email')) },
    steps: [
      { path: '0.0', purpose: 'run', command: 'email.send', state: 'succeeded', result: { done: 'email.send' } },
      { path: '0.2', purpose: 'run', command: 'user.activate', state: 'succeeded' },
    ],
    results: { '0.0': { done: 'email.send' }, '0.1.0': {}, '0.2': { done: 'user.activate' } },
    definition: {
      kind: 'chain',
      steps: [{ command: 'email.send' }, { kind: 'fallback' }, { command: 'user.activate' }],
    },
  });
  await eventually(() => expect(completed.map(({ subject }) => subject)).toContain(`workflow-${id}`));
});

it('undoes what was done when a task fails, and says why', async () => {
  const id = await started(refused);
  await until(id, 'failed');
  const { body } = await get(`/workflows/${id}`);
  expect(body).toMatchObject({
    reason: '0.0 email.send failed: 550 no such user',
    steps: [
      { path: '0.0', state: 'failed', reason: '550 no such user' },
      { path: '0', purpose: 'compensate', command: 'user.deactivate', state: 'succeeded' },
    ],
  });
  const { body: list } = await get('/workflows?state=failed');
  expect(list.workflows).toEqual([expect.objectContaining({ id, name: 'user-onboarding', state: 'failed' })]);
});

it('starts one workflow for an event, however often that is delivered', async () => {
  const user = { ...inputFor('eve@example.com'), registeredAt: new Date(1_234) };
  const draft = UserRegistered.of(user);
  const event = toMessage(draft, { source: 'user-service', subject: `user-${user.userId}`, sequence: 1 });
  const before = (await get('/workflows?limit=100')).body.workflows.length;
  const monitor = service.messaging.monitor.consumer('orchestrator.workflows.user-service');
  const { duplicates } = monitor.totals;
  await backends.events.publish('user-service.events', [event, event]);
  await eventually(async () => {
    const { workflows } = (await get('/workflows?limit=100')).body;
    expect(workflows).toHaveLength(before + 1);
    expect(workflows[0]).toMatchObject({ name: 'user-onboarding' });
  });
  const { id } = (await get('/workflows')).body.workflows[0]!;
  await verified(id, user.userId, 2);
  await until(id, 'completed');
  expect((await get(`/workflows/${id}`)).body.input).toEqual(JSON.parse(maskSealed(JSON.stringify(user))));
  await backends.events.publish('user-service.events', [event]);
  await eventually(() => expect(monitor.totals.duplicates).toBe(duplicates + 2));
  expect((await get('/workflows?limit=100')).body.workflows).toHaveLength(before + 1);
});

it('gives the same answer to the same Idempotency-Key and refuses it for another request', async () => {
  const request = { workflow: 'user-onboarding', input: inputFor('bob@example.com') };
  const key = { 'Idempotency-Key': 'bob-1' };
  const [first, second] = [await post(request, key), await post(request, key)];
  expect([first.status, second.status]).toEqual([202, 202]);
  const accepted = (await first.json()) as { workflowId: string };
  await verified(accepted.workflowId, request.input.userId);
  expect(await second.json()).toEqual(accepted);
  await until(accepted.workflowId, 'completed');
  const other = await post({ ...request, input: inputFor('carol@example.com') }, key);
  expect(other.status).toBe(422);
});

it('refuses what it cannot run', async () => {
  const unknown = await post({ workflow: 'no-such', input: {} });
  expect(unknown.status).toBe(404);
  expect(await unknown.json()).toMatchObject({
    detail: 'There is no workflow "no-such"; there are: user-onboarding, email-campaign.',
  });
  const plain = { ...inputFor('ada@example.com'), email: 'ada@example.com' };
  const wrong = await post({ workflow: 'user-onboarding', input: plain });
  expect(wrong.status).toBe(400);
  expect(await wrong.json()).toMatchObject({ errors: [{ field: 'input.email' }] });
  expect((await post({ workflow: 'user-onboarding' })).status).toBe(400);
  expect((await get('/workflows/no-uuid')).status).toBe(400);
  expect((await get(`/workflows/${newMessageId()}`)).status).toBe(404);
  expect((await get('/workflows?state=lost')).status).toBe(400);
  expect((await get('/workflows?after=lost')).status).toBe(400);
});

it('lists page by page, newest first', async () => {
  const ids: string[] = [];
  for (let count = 0; count < 3; count += 1) {
    const id = await started(`page-${count}@example.com`);
    await until(id, 'completed');
    ids.unshift(id);
  }
  const first = (await get('/workflows?limit=2')).body;
  const second = (await get(`/workflows?limit=2&after=${first.next}`)).body;
  const listed = [...first.workflows, ...second.workflows];
  expect(listed.slice(0, 3).map(({ id }) => id)).toEqual(ids);
  expect(new Set(listed.map(({ id }) => id)).size).toBe(4);
});
