import { newMessageId } from '@starter/messaging';
import type { RunningService } from '@starter/service';
import { eventually, sealedText, ServiceBackends } from '@starter/testing';
import { orchestrator } from '@starter/orchestrator';
import { WorkflowMetrics } from './workflow-metrics.js';

let backends: ServiceBackends;
let service: RunningService;
beforeAll(async () => {
  backends = await ServiceBackends.open();
  await backends.answer(['user.activate', 'user.deactivate'], ({ type }) =>
    type === 'user.activate' ? [{ result: null }] : [{ failure: `no such user ${sealedText('ada')}` }],
  );
  service = await backends.start(orchestrator);
});
afterAll(async () => {
  await service?.stop();
  await backends?.close();
});

const userId = newMessageId();
const activate = { kind: 'task', command: 'user.activate', version: 1, key: 'userId', input: { userId } };
const deactivate = { ...activate, command: 'user.deactivate', input: { userId, reason: 'spec' } };
const silent = { kind: 'task', command: 'user.export', version: 1, input: {} };
const begin = async (definition: object): Promise<string> => {
  const response = await fetch(`${service.url}/workflows`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ workflow: 'counted', definition, input: {} }),
  });
  expect(response.status).toBe(202);
  return ((await response.json()) as { workflowId: string }).workflowId;
};
const metrics = async (): Promise<string> => {
  await service.app.get(WorkflowMetrics).sample();
  return (await fetch(`${service.managementUrl}/metrics`)).text();
};
const instances = (state: string, count: number) =>
  `workflow_instances{state="${state}",service="orchestrator"} ${count}`;
const oldest = async (): Promise<number> =>
  Number(/^workflow_oldest_request_seconds\{service="orchestrator"\} (.+)$/m.exec(await metrics())?.[1]);

it('counts workflows by state, and says for how long one has waited for an answer', async () => {
  expect(await oldest()).toBe(0);
  await begin(silent);
  await begin(activate);
  await begin(deactivate);
  await eventually(async () => {
    const text = await metrics();
    for (const state of ['running', 'completed', 'failed']) expect(text).toContain(instances(state, 1));
    for (const state of ['compensating', 'stuck']) expect(text).toContain(instances(state, 0));
  });
  // Of the minute in which it was sent.
  expect(await oldest()).toBeLessThan(600);
  await service.messaging.dataSource.query(
    `UPDATE workflow_directory SET oldest_request_at = now() - interval '2 h' WHERE oldest_request_at IS NOT NULL`,
  );
  expect(await oldest()).toBeGreaterThanOrEqual(7_200);
});

it('tells in the log that a workflow is stuck, once each time, with its node and the reason', async () => {
  const lines: [string, object | undefined][] = [];
  const { logger } = service.messaging;
  const { warn } = logger;
  logger.warn = (message, details) => void lines.push([message, details]);
  const id = await begin({ kind: 'chain', steps: [{ ...activate, compensateWith: deactivate }, deactivate] });
  await eventually(async () => expect(await metrics()).toContain(instances('stuck', 1)));
  const told = () => lines.filter(([message]) => message.includes('is stuck')).map(([, details]) => details);
  const line = {
    id,
    workflow: 'counted',
    node: '0.0',
    nodes: 1,
    reason: expect.stringContaining('[sealed spec/') as string,
  };
  expect(told()).toEqual([line]);
  const unstuck = await fetch(`${service.url}/workflows/${id}/unstick`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ path: '0.0', remedy: 'retry' }),
  });
  expect(unstuck.status).toBe(202);
  await eventually(() => expect(told()).toEqual([line, line]));
  logger.warn = warn;
});
