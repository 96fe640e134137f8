import { StartWorkflow } from '@starter/contracts';
import { emailService } from '@starter/email-service';
import { newMessageId, toMessage } from '@starter/messaging';
import { orchestrator } from '@starter/orchestrator';
import { RouteGuard, type RunningService } from '@starter/service';
import { eventually, sealedText, ServiceBackends, testPersonalDataKey } from '@starter/testing';
import { userService } from '@starter/user-service';

const definitions = { userService, emailService, orchestrator };
const sealed = sealedText('somebody@example.com', 'email');
const ciphertext = /sealed:v1:[\w.-]+\/[\w.-]+\/[\w.]+:[\w-]/;

let backends: ServiceBackends;
let service: RunningService;
afterEach(async () => {
  await service?.stop();
  await backends?.close();
});

const ask = async (url: string, init: RequestInit = {}): Promise<{ status: number; text: string }> => {
  const response = await fetch(url, { ...init, headers: { 'content-type': 'application/json' } });
  const { status } = response;
  if (!response.headers.get('content-type')?.includes('event-stream')) return { status, text: await response.text() };
  // Its first event says what the others would.
  const reader = response.body?.getReader();
  const { value } = (await reader?.read()) ?? {};
  await reader?.cancel();
  return { status, text: new TextDecoder().decode(value) };
};
const post = async (path: string, body: object) => {
  const { status, text } = await ask(`${service.url}${path}`, { method: 'POST', body: JSON.stringify(body) });
  expect([status, text]).toEqual([202, expect.any(String)]);
  return JSON.parse(text) as Record<string, string>;
};

/** A task that has sealed texts wherever it can have them, and a command that waits for its rate limit. @returns its id */
async function writeTask(): Promise<string> {
  const id = newMessageId();
  const { dataSource } = service.messaging;
  const json = JSON.stringify({ email: sealed });
  await dataSource.query(
    `INSERT INTO task (id, state, message, result, progress, error, due_at, worker, consumer)
     SELECT id, state, $2, $2, $3, $4, now(), $4, 'spec' FROM unnest($1::text[], '{RETRY,STARTED}'::text[]) AS task (id, state)`,
    [
      [id, newMessageId()],
      JSON.stringify({ type: 'spec.do', data: { email: sealed } }),
      JSON.stringify({ current: 1, total: 2, percent: 50, detail: json }),
      `no such user ${sealed}`,
    ],
  );
  return id;
}

/** Workflows with sealed texts in their names, inputs, definitions, matches, results and reasons. @returns their ids */
async function startWorkflows(): Promise<string[]> {
  const name = sealed.slice(0, 100);
  const userId = newMessageId();
  const input = { userId };
  const activate = { kind: 'task', command: 'user.activate', version: 1, key: 'userId', input };
  const wait = { kind: 'waitForEvent', event: 'user.verified', match: { userId: sealed } };
  const failing = { ...activate, command: 'user.deactivate', input: { ...input, reason: sealed } };
  const unknown = newMessageId();
  const begin = async (definition: object) =>
    (await post('/workflows', { workflow: name, definition, input: { email: sealed } }))['workflowId'] as string;
  const ids = [await begin({ kind: 'chain', steps: [activate, wait] }), await begin(failing), await begin(activate)];
  const wrong = { workflowId: unknown, workflow: name, definition: { kind: sealed }, input: {} };
  await backends.commands.send(toMessage(StartWorkflow.of(wrong), { source: 'spec' }));
  for (const [index, state] of ['running', 'failed', 'completed'].entries()) {
    await eventually(async () =>
      expect(JSON.parse((await ask(`${service.url}/workflows/${ids[index]}`)).text)).toMatchObject({ state }),
    );
  }
  await eventually(async () => expect((await ask(`${service.url}/workflows/${unknown}`)).status).toBe(200));
  return [...ids, unknown];
}

it.each(Object.keys(definitions) as (keyof typeof definitions)[])('no view of %s shows a sealed text', async (name) => {
  backends = await ServiceBackends.open();
  await backends.answer(['user.activate', 'user.deactivate'], ({ type }) =>
    type === 'user.activate' ? [{ result: { email: sealed } }] : [{ failure: `no such user ${sealed}` }],
  );
  service = await backends.start(definitions[name] as typeof userService, { PERSONAL_DATA_KEY: testPersonalDataKey });
  const ids = [newMessageId()];
  if (name === 'orchestrator') ids.push(...(await startWorkflows()));
  if (name === 'userService') {
    ids.push(await writeTask());
    ids.push((await post('/users', { email: 'ada@example.com', name: 'Ada' }))['userId'] as string);
    ids.push((await post('/users/exports', {}))['taskId'] as string);
  }
  const { routes } = service.app.get(RouteGuard);
  const views = routes.filter(({ method, url }) => method === 'GET' && !url.includes('*'));
  expect(views.length).toBeGreaterThan(5);
  let masked = 0;
  for (const { url, management } of views) {
    for (const id of url.includes(':') ? ids : ['']) {
      const { text } = await ask((management ? service.managementUrl : service.url) + url.replace(/:\w+/, id));
      expect({ url, id, found: ciphertext.exec(text)?.[0] }).toEqual({ url, id, found: undefined });
      if (text.includes('[sealed spec/somebody/email]')) masked += 1;
    }
  }
  // Tasks: active, one, its result, its events; and the list. Workflows: the list, and three views of each. E-mails hold none.
  expect(masked).toBeGreaterThanOrEqual({ userService: 4, orchestrator: 7, emailService: 0 }[name]);
});
