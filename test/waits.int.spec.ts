import { orchestrator } from '@starter/orchestrator';
import { Waits, type RunningService } from '@starter/service';
import { eventually, ServiceBackends, testPersonalDataKey } from '@starter/testing';
import { userService } from '@starter/user-service';
import { randomUUID } from 'node:crypto';

let backends: ServiceBackends;
let service: RunningService;

beforeEach(async () => {
  backends = await ServiceBackends.open();
});
afterEach(async () => {
  await service?.stop();
  await backends.close();
});

const waiting = () => service.app.get(Waits).size;
const startWorkflow = async (): Promise<string> => {
  const definition = { kind: 'sleep', duration: '1h' };
  const response = await fetch(`${service.url}/workflows`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ workflow: 'nap', definition, input: {} }),
  });
  const { workflowId } = (await response.json()) as { workflowId: string };
  await eventually(async () => expect((await fetch(`${service.url}/workflows/${workflowId}`)).status).toBe(200));
  return workflowId;
};

/** Of one that runs, and of a task that nobody has sent yet. */
const waited: [string, string, () => Promise<string>][] = [
  [
    'workflow',
    'running',
    async () => {
      service = await backends.start(orchestrator);
      return `${service.url}/workflows/${await startWorkflow()}`;
    },
  ],
  [
    'task',
    'PENDING',
    async () => {
      service = await backends.start(userService, { PERSONAL_DATA_KEY: testPersonalDataKey });
      return `${service.managementUrl}/tasks/${randomUUID()}`;
    },
  ],
];

it.each(waited)(
  'answers all that wait for a %s with what is known as soon as the service stops',
  async (_, state, start) => {
    const path = await start();
    const answers = [`${path}/result?timeout=50s`, `${path}/events`].map(async (url) => {
      const response = await fetch(url);
      return { status: response.status, body: await response.text() };
    });
    await eventually(() => expect(waiting()).toBe(2));
    await service.stop();
    const known = { status: 200, body: expect.stringContaining(`"state":"${state}"`) };
    expect(await Promise.all(answers)).toEqual([known, known]);
    expect(waiting()).toBe(0);
  },
);

it('answers who waits for a version that it has not come, with Retry-After, when the service stops', async () => {
  service = await backends.start(userService, { PERSONAL_DATA_KEY: testPersonalDataKey });
  const answer = fetch(`${service.url}/users/${randomUUID()}?atLeastVersion=7`);
  await eventually(() => expect(waiting()).toBe(1));
  await service.stop();
  expect([(await answer).status, (await answer).headers.get('retry-after')]).toEqual([503, '1']);
});

it('stops waiting when the client has left', async () => {
  service = await backends.start(orchestrator);
  const id = await startWorkflow();
  for (const path of ['result?timeout=50s', 'events']) {
    const client = new AbortController();
    const answer = fetch(`${service.url}/workflows/${id}/${path}`, { signal: client.signal })
      .then((response) => response.text())
      .catch(() => 'left');
    await eventually(() => expect(waiting()).toBe(1));
    client.abort();
    expect(await answer).toBe('left');
    await eventually(() => expect(waiting()).toBe(0));
  }
});

it('lets so many wait and no more', async () => {
  service = await backends.start(orchestrator, { WAITING_REQUESTS: '2' });
  const url = `${service.url}/workflows/${await startWorkflow()}`;
  const answers = [fetch(`${url}/result?timeout=50s`), fetch(`${url}/events`)];
  await eventually(() => expect(waiting()).toBe(2));
  for (const path of ['result?timeout=1s', 'events']) {
    const refused = await fetch(`${url}/${path}`);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '5']);
    expect(await refused.json()).toMatchObject({ detail: expect.stringMatching(/2 requests wait already/) });
  }
  expect((await fetch(url)).status).toBe(200);
  await service.stop();
  for (const answer of answers) expect((await answer).status).toBe(200);
});
