import {
  ActivateUser,
  DeactivateUser,
  EmailSent,
  NodeEnded,
  SendEmail,
  StartWorkflow,
  TaskFailed,
  TaskRequested,
  TaskSucceeded,
  WorkflowCompleted,
  WorkflowFailed,
  WorkflowStarted,
  WorkflowStuck,
} from '@starter/contracts';
import { CommandFailed, CommandSucceeded } from '@starter/event-sourcing';
import type { Draft } from '@starter/messaging';
import { given as givenActor } from '@starter/testing';
import { z } from 'zod';
import { chain, task, workflow } from '../definition/builder.js';
import type { Json, WorkflowNode } from '../definition/definition.js';
import { requestIdOf } from './derived-id.js';
import { workflowInstance } from './workflow.decider.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const userId = '01980000-0000-7000-8000-000000000002';
const input = { userId, email: 'ada@example.com', name: 'Ada', registeredAt: '2026-01-02T03:04:05.678Z' };
const names = z.object({ userId: z.uuid(), email: z.email(), name: z.string() });
const deactivation = { userId, reason: 'the welcome e-mail could not be delivered' };

const given = (...past: Draft[]) => givenActor(workflowInstance, ...past);
/** Replies name their workflow in the envelope. */
const reply = { subject: workflowId };
const succeeded = (requestId: string, result: Json = null) => ({
  definition: CommandSucceeded,
  data: { requestId, result },
});
const failed = (requestId: string, reason: string) => ({ definition: CommandFailed, data: { requestId, reason } });

const request = (path: string, purpose: 'run' | 'compensate' = 'run') => ({
  workflowId,
  path,
  purpose,
  requestId: requestIdOf(workflowId, path, purpose, 1),
});
const requested = (path: string, { definition, data }: Draft, subject?: string, purpose?: 'run' | 'compensate') => {
  const sent = request(path, purpose);
  return TaskRequested.of({
    ...sent,
    attempt: 1,
    command: definition.type,
    commandVersion: 1,
    subject: subject ?? sent.requestId,
    data: data as Json,
  });
};
const taskSucceeded = (path: string, result: Json = null, purpose?: 'run' | 'compensate') =>
  TaskSucceeded.of({ ...request(path, purpose), result });
const taskFailed = (path: string, reason: string, purpose?: 'run' | 'compensate') =>
  TaskFailed.of({ ...request(path, purpose), reason });

const nodeFailed = (path: string, reason: string) => NodeEnded.of({ workflowId, path, outcome: 'failed', reason });

const start = (definition: WorkflowNode) =>
  StartWorkflow.of({ workflowId, workflow: 'user-onboarding', definition, input });
const started = (definition: WorkflowNode) =>
  WorkflowStarted.of({ workflowId, workflow: 'user-onboarding', definition, input });

describe('user onboarding', () => {
  const { definition } = workflow('user-onboarding', { input: names }, ({ userId: id, email, name }) =>
    chain(
      task(SendEmail, { to: email, template: 'welcome', variables: { name } }),
      task(ActivateUser, { userId: id }),
    ).compensateWith(task(DeactivateUser, { userId: id, reason: deactivation.reason })),
  );
  const mail = request('0.0').requestId;
  const activation = request('0.1').requestId;
  const undo = request('0', 'compensate').requestId;
  const mailRequested = requested(
    '0.0',
    SendEmail.of({ to: 'ada@example.com', template: 'welcome', variables: { name: 'Ada' } }),
  );
  const activationRequested = requested('0.1', ActivateUser.of({ userId }), userId);
  const undoRequested = requested('0', DeactivateUser.of(deactivation), userId, 'compensate');
  const begun = [started(definition), mailRequested];
  const mailFailed = taskFailed('0.0', '550 no such user');
  const failedBecause = '0.0 email.send failed: 550 no such user';
  const chainFailed = nodeFailed('0', failedBecause);

  it('sends the e-mail, then activates the user, then is complete', () => {
    given()
      .when(start(definition))
      .then(...begun);
    given(...begun)
      .when(succeeded(mail, { messageId: 'm1' }), reply)
      .then(taskSucceeded('0.0', { messageId: 'm1' }), activationRequested);
    given(...begun, taskSucceeded('0.0', { messageId: 'm1' }), activationRequested)
      .when(succeeded(activation, { userId }), reply)
      .then(taskSucceeded('0.1', { userId }), WorkflowCompleted.of({ workflowId, result: { userId } }));
  });

  it('deactivates the user when the e-mail fails, and has failed when that is done', () => {
    given(...begun)
      .when(failed(mail, '550 no such user'), reply)
      .then(mailFailed, chainFailed, undoRequested);
    given(...begun, mailFailed, chainFailed, undoRequested)
      .when(succeeded(undo), reply)
      .then(taskSucceeded('0', null, 'compensate'), WorkflowFailed.of({ workflowId, reason: failedBecause }));
  });

  it('deactivates the user when the activation fails', () => {
    given(...begun, taskSucceeded('0.0'), activationRequested)
      .when(failed(activation, 'the user is deactivated'), reply)
      .then(
        taskFailed('0.1', 'the user is deactivated'),
        nodeFailed('0', '0.1 user.activate failed: the user is deactivated'),
        undoRequested,
      );
  });

  it('is stuck, with both reasons, when the compensation fails', () => {
    const reason = `the compensation of 0 chain failed: the user is not registered; it ran because ${failedBecause}`;
    given(...begun, mailFailed, chainFailed, undoRequested)
      .when(failed(undo, 'the user is not registered'), reply)
      .then(
        taskFailed('0', 'the user is not registered', 'compensate'),
        WorkflowStuck.of({ workflowId, path: '0', reason }),
      );
  });

  it('is started once', () => {
    given(...begun)
      .when(start(definition))
      .then();
    given(...begun)
      .when(start({ kind: 'chain', steps: [] }))
      .then();
  });

  it('counts the first reply to a request and no other', () => {
    const sent = [...begun, taskSucceeded('0.0'), activationRequested];
    given(...sent)
      .when(succeeded(mail), reply)
      .then();
    given(...sent)
      .when(failed(mail, 'late'), reply)
      .then();
    given(...begun, mailFailed, chainFailed, undoRequested)
      .when(succeeded(mail), reply)
      .then();
    const failedInTheEnd = [taskSucceeded('0', null, 'compensate'), WorkflowFailed.of({ workflowId, reason: 'x' })];
    given(...begun, mailFailed, chainFailed, undoRequested, ...failedInTheEnd)
      .when(failed(undo, 'late'), reply)
      .then();
  });

  it('refuses a reply that nobody waits for, so that it is recorded', () => {
    given()
      .when(succeeded(mail), reply)
      .thenRejected(`there is no workflow ${workflowId}: nobody waits for this reply`);
    given(...begun)
      .when(failed(undo, 'early'), reply)
      .thenRejected(`workflow ${workflowId} never sent request ${undo}: nobody waits for this reply`);
  });

  it('sends exactly the command of a request, and asks for the reply', () => {
    const send = ({ definition: { type }, data }: Draft) =>
      workflowInstance.outgoing?.({ type, data, sequence: 2, time: new Date(0) });
    const replyTo = { address: 'orchestrator.replies', subject: workflowId };
    expect(send(activationRequested)).toEqual([
      { type: 'user.activate', version: 1, id: activation, subject: userId, data: { userId }, replyTo },
    ]);
    expect(send(mailRequested)).toMatchObject([{ type: 'email.send', id: mail, subject: mail, replyTo }]);
    expect(send(taskSucceeded('0.0'))).toEqual([]);
  });

  it('goes on the same after a restart: the state folded from stored JSON decides alike', () => {
    const past = [...begun, taskSucceeded('0.0', { messageId: 'm1' }), activationRequested];
    const stored = past.map(({ definition: of, data }): Draft => ({
      definition: of,
      data: of.schema.parse(JSON.parse(JSON.stringify(data))),
    }));
    expect(given(...stored).state).toEqual(given(...past).state);
    given(...stored)
      .when(failed(activation, 'no'), reply)
      .then(taskFailed('0.1', 'no'), nodeFailed('0', '0.1 user.activate failed: no'), undoRequested);
  });
});

describe('a chain', () => {
  const complete = WorkflowCompleted.of({ workflowId, result: null });
  const definitionOf = (build: Parameters<typeof workflow<typeof names>>[2]) =>
    workflow('some', { input: names }, build).definition;
  const activate = () => task(ActivateUser, { userId });
  const activated = (path: string) => requested(path, ActivateUser.of({ userId }), userId);
  const undone = (path: string, reason: string) =>
    requested(path, DeactivateUser.of({ userId, reason }), userId, 'compensate');
  const undoing = (reason: string) => task(DeactivateUser, { userId, reason });

  it('without steps completes at once, nested or not, and compensates nothing', () => {
    const empty = definitionOf(() => chain());
    given().when(start(empty)).then(started(empty), complete);
    const nested = definitionOf(() =>
      chain(chain().compensateWith(undoing('x')), chain(chain())).compensateWith(undoing('y')),
    );
    given().when(start(nested)).then(started(nested), complete);
  });

  it('may be a single task', () => {
    const single = definitionOf(({ userId: id }) => task(ActivateUser, { userId: id }));
    given().when(start(single)).then(started(single), activated('0'));
    given(started(single), activated('0'))
      .when(failed(request('0').requestId, 'no'), reply)
      .then(taskFailed('0', 'no'), WorkflowFailed.of({ workflowId, reason: '0 user.activate failed: no' }));
  });

  it('runs nested chains depth first and hands results on', () => {
    const nested = definitionOf(({ email }) => {
      const mail = task(SendEmail, { to: email, template: 'welcome', variables: {} });
      const { messageId } = mail.result(EmailSent);
      return chain(chain(), chain(chain(mail)), chain(task(DeactivateUser, { userId, reason: messageId })), chain());
    });
    const mailRequested = requested(
      '0.1.0.0',
      SendEmail.of({ to: 'ada@example.com', template: 'welcome', variables: {} }),
    );
    const next = requested('0.2.0', DeactivateUser.of({ userId, reason: 'm1' }), userId);
    given().when(start(nested)).then(started(nested), mailRequested);
    given(started(nested), mailRequested)
      .when(succeeded(request('0.1.0.0').requestId, { messageId: 'm1' }), reply)
      .then(taskSucceeded('0.1.0.0', { messageId: 'm1' }), next);
    given(started(nested), mailRequested, taskSucceeded('0.1.0.0', { messageId: 'm1' }), next)
      .when(succeeded(request('0.2.0').requestId), reply)
      .then(taskSucceeded('0.2.0'), complete);
  });

  it('undoes in the reverse order of what was requested, one after the other, the failed task included', () => {
    const nested = definitionOf(() =>
      chain(
        activate().compensateWith(undoing('first')),
        chain(activate(), activate().compensateWith(undoing('third'))).compensateWith(undoing('second')),
        activate().compensateWith(undoing('never requested')),
      ).compensateWith(undoing('all')),
    );
    const past: Draft[] = [
      started(nested),
      activated('0.0'),
      taskSucceeded('0.0'),
      activated('0.1.0'),
      taskSucceeded('0.1.0'),
      activated('0.1.1'),
    ];
    const because = '0.1.1 user.activate failed: no';
    const failures = [taskFailed('0.1.1', 'no'), nodeFailed('0.1', because), nodeFailed('0', because)];
    let next: Draft[] = [...failures, undone('0.1.1', 'third')];
    given(...past)
      .when(failed(request('0.1.1').requestId, 'no'), reply)
      .then(...next);
    for (const [path, following] of [
      ['0.1.1', undone('0.1', 'second')],
      ['0.1', undone('0.0', 'first')],
      ['0.0', undone('0', 'all')],
      ['0', WorkflowFailed.of({ workflowId, reason: '0.1.1 user.activate failed: no' })],
    ] as const) {
      past.push(...next);
      next = [taskSucceeded(path, null, 'compensate'), following];
      given(...past)
        .when(succeeded(request(path, 'compensate').requestId), reply)
        .then(...next);
    }
  });

  it('fails, and undoes what came before, when an input cannot be put together', () => {
    const incomplete = definitionOf(() => {
      const mail = task(SendEmail, { to: 'ada@example.com', template: 'welcome', variables: {} });
      const { messageId } = mail.result(EmailSent);
      return chain(
        mail.compensateWith(undoing('mail')),
        task(DeactivateUser, { userId, reason: messageId }).compensateWith(undoing('nothing was sent')),
      );
    });
    const sent = requested('0.0', SendEmail.of({ to: 'ada@example.com', template: 'welcome', variables: {} }));
    const reason = '0.1 user.deactivate.reason: "results.0.0.messageId" has no value; there is no field "messageId"';
    given(started(incomplete), sent)
      .when(succeeded(request('0.0').requestId, {}), reply)
      .then(
        taskSucceeded('0.0', {}),
        taskFailed('0.1', reason),
        nodeFailed('0', `0.1 user.deactivate failed: ${reason}`),
        undone('0.0', 'mail'),
      );
  });

  it('is stuck when the input of a compensation cannot be put together', () => {
    const definition = definitionOf((all) =>
      activate().compensateWith(task(DeactivateUser, { userId, reason: all.name })),
    );
    const { name: _, ...nameless } = input;
    const begun = WorkflowStarted.of({ workflowId, workflow: 'some', definition, input: nameless });
    const reason = '0 user.deactivate.reason: "input.name" has no value; there is no field "name"';
    given(begun, activated('0'))
      .when(failed(request('0').requestId, 'no'), reply)
      .then(
        taskFailed('0', 'no'),
        taskFailed('0', reason, 'compensate'),
        WorkflowStuck.of({
          workflowId,
          path: '0',
          reason: `the compensation of 0 user.activate failed: ${reason}; it ran because 0 user.activate failed: no`,
        }),
      );
  });
});

describe('a definition that cannot run is refused', () => {
  it.each<[Json, string]>([
    ['none', 'the definition cannot run: root: Invalid input'],
    [
      { kind: 'chain', steps: [{ kind: 'loop' }] },
      'the definition cannot run: steps.0.kind: Invalid discriminator value',
    ],
    [{ kind: 'chain', steps: [], retry: 3 }, 'the definition cannot run: root: Unrecognized key: "retry"'],
    [
      { kind: 'task', command: 'x', version: 1, input: { a: { $ref: 'results.0.a' } } },
      'the definition cannot run: 0 x.a: "results.0.a" is not known when 0 starts',
    ],
  ])('%j', (definition, reason) => {
    const { state } = given();
    const message = {
      id: 'm',
      type: StartWorkflow.type,
      version: 1,
      source: 's',
      time: '',
      correlationId: 'c',
      data: null,
    };
    const command = { data: { workflowId, workflow: 'some', definition, input } as never, message };
    const decision = workflowInstance.decide.get(StartWorkflow.type)?.decide(command, state);
    expect(decision).toEqual({ rejected: expect.stringContaining(reason) });
  });
});
