import { ActivateUser, DeactivateUser, EmailSent, SendEmail, UserRegistered } from '@starter/contracts';
import { sealedText } from '@starter/testing';
import { z } from 'zod';
import { workflowContracts as contracts, workflows } from '@starter/orchestrator';
import { chain, task, workflow, type Workflow } from './definition/builder.js';
import type { Json, WorkflowNode } from './definition/definition.js';
import { startOf, WorkflowRegistry } from './workflow-registry.js';

const onboarding = workflows[0]!;
const withDefinition = (definition: WorkflowNode): Workflow => ({ ...onboarding, name: 'wrong', definition });
const activating = (userId: Json): WorkflowNode => ({
  kind: 'task',
  command: 'user.activate',
  version: 1,
  key: 'userId',
  input: { userId },
});

it('holds the workflows of this service, all of which can run', () => {
  const registry = new WorkflowRegistry(workflows, contracts);
  expect(registry.names).toEqual(['user-onboarding', 'email-campaign']);
  expect(registry.find('user-onboarding')).toBe(onboarding);
  expect(registry.find('other')).toBeUndefined();
});

it('starts a workflow with its definition and with what the schema knows of the input, in wire form', () => {
  const userId = '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5f';
  const [email, name] = [sealedText('ada@example.com', 'email'), sealedText('Ada')];
  const verificationToken = sealedText('token', 'verificationToken');
  const registered = { userId, email, name, verificationToken, registeredAt: new Date(0), extra: 1 };
  expect(startOf(onboarding, userId, registered).data).toEqual({
    workflowId: userId,
    workflow: 'user-onboarding',
    definition: onboarding.definition,
    input: { userId, email, name, verificationToken, registeredAt: '1970-01-01T00:00:00.000Z' },
  });
});

it.each<[string, Workflow[], string]>([
  ['a name twice', [onboarding, onboarding], 'the name user-onboarding is used twice; rename one'],
  [
    'an unknown command',
    [withDefinition({ kind: 'task', command: 'user.praise', version: 1, input: {} })],
    'wrong: 0 user.praise: the command is unknown; add it to the commands that workflows may send',
  ],
  [
    'an unknown version',
    [withDefinition({ ...activating({ $ref: 'input.userId' }), version: 2 } as WorkflowNode)],
    'wrong: 0 user.activate: v2 is unknown; the contract has v1',
  ],
  [
    'an input that the service would refuse',
    [withDefinition(activating('nobody'))],
    'wrong: 0 user.activate.userId: Invalid UUID',
  ],
  [
    'a wrong key',
    [withDefinition({ kind: 'task', command: 'user.activate', version: 1, key: 'id', input: { id: 'x' } })],
    'wrong: 0 user.activate: its key is "id"; the contract says "userId"',
  ],
  [
    'an input without its key',
    [withDefinition({ kind: 'task', command: 'user.activate', version: 1, key: 'userId', input: {} })],
    'wrong: 0 user.activate: the input has no "userId", which names the actor; add it',
  ],
  [
    'a field that the input lacks',
    [withDefinition({ kind: 'chain', steps: [activating({ $ref: 'input.id' })] })],
    'wrong: 0.0 user.activate.userId: the input has no "id"; correct the reference or the input\'s schema',
  ],
  [
    'a malformed reference',
    [withDefinition(activating({ $ref: 'userId' }))],
    'wrong: 0 user.activate.userId: "userId" is no reference; write input.<field>, results.<path>.<field> or item.<path>.<field>',
  ],
  [
    'a reference to what comes later',
    [withDefinition({ kind: 'chain', steps: [activating({ $ref: 'results.0.1.id' }), activating('x')] })],
    'wrong: 0.0 user.activate.userId: "results.0.1.id" is not known when 0.0 starts; refer to the input or to an earlier step',
  ],
  [
    'a reference to what it is part of',
    [withDefinition({ kind: 'chain', steps: [activating({ $ref: 'results.0' })] })],
    '"results.0" is not known when 0.0 starts',
  ],
  [
    'a compensation that needs the result of what it undoes',
    [
      workflow('wrong', { startsOn: UserRegistered }, ({ userId, email }) => {
        const mail = task(SendEmail, { to: email, template: 'welcome', variables: {} });
        return chain(mail.compensateWith(task(DeactivateUser, { userId, reason: mail.result(EmailSent).messageId })));
      }),
    ],
    'wrong: 0.0 compensateWith user.deactivate.reason: "results.0.0.messageId" is not known when 0.0 starts',
  ],
  [
    'a wait for an unknown event',
    [withDefinition({ kind: 'waitForEvent', event: 'user.praised', match: { userId: 'x' } })],
    'wrong: 0 waitForEvent: the event user.praised is unknown; add it to those that workflows may wait for',
  ],
  [
    'a wait for a field that the event lacks',
    [withDefinition({ kind: 'waitForEvent', event: 'user.verified', match: { user: 'x' } })],
    'has no "user"; name fields of its data',
  ],
  [
    'an event of nobody',
    [{ ...onboarding, name: 'wrong', startsOn: { ...UserRegistered, owner: 'nobody' } }],
    'wrong: it starts on user.registered of nobody, which is no service; see libs/contracts topology',
  ],
])('refuses %s', (_, wrong, message) => {
  expect(() => new WorkflowRegistry(wrong, contracts)).toThrow(message);
});

it('names every problem at once', () => {
  const unknown = withDefinition({
    kind: 'chain',
    steps: [
      { kind: 'task', command: 'x', version: 1, input: {} },
      { kind: 'task', command: 'y', version: 1, input: {} },
    ],
  });
  expect(() => new WorkflowRegistry([unknown], contracts)).toThrow(/0\.0 x: .*\n.*0\.1 y: /);
});

it('accepts references to earlier steps, at any depth', () => {
  const fine = workflow('fine', { input: z.object({ userId: z.uuid() }) }, ({ userId }) => {
    const mail = task(SendEmail, { to: sealedText('ada@example.com', 'email'), template: 'welcome', variables: {} });
    const { messageId } = mail.result(EmailSent);
    const undo = task(DeactivateUser, { userId, reason: messageId });
    return chain(chain(mail), chain(chain(task(ActivateUser, { userId }).compensateWith(undo))));
  });
  expect(new WorkflowRegistry([fine], contracts).names).toEqual(['fine']);
});
