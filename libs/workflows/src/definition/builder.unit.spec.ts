import { ActivateUser, DeactivateUser, EmailSent, SendEmail, StartWorkflow, UserRegistered } from '@starter/contracts';
import { z } from 'zod';
import { workflows } from '@starter/orchestrator';
import { chain, chord, equals, forEach, group, lessThan, task, waitForEvent, when, workflow } from './builder.js';
import { workflowNode } from './definition.js';

const userOnboarding = workflows.find(({ name }) => name === 'user-onboarding')!;

const userId = '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5f';

describe('a workflow written with the builder', () => {
  it('is a tree of data with references', () => {
    expect(userOnboarding.name).toBe('user-onboarding');
    expect(userOnboarding.startsOn).toBe(UserRegistered);
    expect(userOnboarding.definition).toMatchObject({
      kind: 'chain',
      steps: [
        {
          kind: 'task',
          command: 'email.send',
          version: 1,
          input: {
            to: { $ref: 'input.email' },
            template: 'welcome',
            variables: { name: { $ref: 'input.name' }, code: { $ref: 'input.verificationToken' } },
          },
        },
        {
          kind: 'fallback',
          attempt: {
            kind: 'waitForEvent',
            event: 'user.verified',
            match: { userId: { $ref: 'input.userId' } },
            timeout: '1d',
          },
          otherwise: { kind: 'chain', steps: [{ kind: 'task' }, { kind: 'waitForEvent', timeout: '6d' }] },
        },
        {
          kind: 'task',
          command: 'user.activate',
          version: 1,
          key: 'userId',
          input: { userId: { $ref: 'input.userId' } },
        },
      ],
      compensateWith: {
        kind: 'task',
        command: 'user.deactivate',
        version: 1,
        key: 'userId',
        input: { userId: { $ref: 'input.userId' }, reason: 'the e-mail address was not verified' },
      },
    });
  });

  it('comes back the same from JSON through the published schema', () => {
    const json: unknown = JSON.parse(JSON.stringify(userOnboarding.definition));
    expect(workflowNode.parse(json)).toEqual(userOnboarding.definition);
  });

  it('refers to the result of an earlier task by its place, also when that got a compensation', () => {
    const { definition } = workflow('receipt', { startsOn: UserRegistered }, ({ userId, email }) => {
      const mail = task(SendEmail, { to: email, template: 'welcome', variables: {} });
      return chain(
        chain(mail.compensateWith(task(ActivateUser, { userId }))),
        task(DeactivateUser, { userId, reason: mail.result(EmailSent).messageId }),
      );
    });
    expect(definition).toMatchObject({
      steps: [{}, { input: { reason: { $ref: 'results.0.0.0.messageId' } } }],
    });
  });

  it('may take any input and may be a single task', () => {
    const input = z.object({ user: z.object({ ids: z.array(z.uuid()) }) });
    const { definition, startsOn } = workflow('activate', { input }, ({ user }) =>
      task(ActivateUser, { userId: user.ids[0]! }),
    );
    expect(startsOn).toBeUndefined();
    expect(definition).toMatchObject({ kind: 'task', input: { userId: { $ref: 'input.user.ids.0' } } });
  });

  it('takes a reference for a part of a nested JSON value', () => {
    const { definition } = workflow('nested', { startsOn: UserRegistered }, ({ userId, name }) =>
      task(StartWorkflow, { workflowId: userId, workflow: 'other', definition: null, input: { deep: [{ name }] } }),
    );
    expect(definition).toMatchObject({
      key: 'workflowId',
      input: { input: { deep: [{ name: { $ref: 'input.name' } }] } },
    });
  });
});

describe('the builder refuses', () => {
  const build = (node: Parameters<typeof workflow>[2]) => () => workflow('wrong', { startsOn: UserRegistered }, node);
  const activate = () => task(ActivateUser, { userId });

  it('the result of a task that is not in the workflow', () => {
    const elsewhere = task(SendEmail, { to: 'ada@example.com', template: 'welcome', variables: {} });
    expect(build(() => task(DeactivateUser, { userId, reason: elsewhere.result(EmailSent).messageId }))).toThrow(
      'workflow wrong: task user.deactivate.input.reason refers to the result of a task that is not in the workflow; add the task to it',
    );
  });

  it('the same task in two places', () => {
    const once = activate();
    expect(build(() => chain(once, chain(once)))).toThrow(
      'workflow wrong: one task stands at 0.0 and at 0.1.0; make one for each place',
    );
  });

  it('a compensation of a compensation', () => {
    expect(build(() => activate().compensateWith(activate().compensateWith(activate())))).toThrow(/compensateWith/);
  });

  it('to make a text of a reference', () => {
    const input = z.object({ name: z.string() });
    const greet = () =>
      workflow('wrong', { input }, ({ name }) =>
        // eslint-disable-next-line @typescript-eslint/restrict-template-expressions, @typescript-eslint/no-base-to-string
        task(SendEmail, { to: 'ada@example.com', template: 'welcome', variables: { greeting: `Dear ${name}` } }),
      );
    expect(greet).toThrow(
      'workflow wrong: input.name has no value yet: pass the reference itself, not a text made of it',
    );
  });

  it('a field whose name has a dot', () => {
    const input = z.object({ 'first.name': z.string() });
    const use = () =>
      workflow('wrong', { input }, (all) => task(DeactivateUser, { userId, reason: all['first.name'] }));
    expect(use).toThrow('a reference cannot name the field "first.name"');
  });
});

describe('the compiler refuses', () => {
  it('wrong references and wrong inputs', () => {
    const mail = task(SendEmail, { to: 'ada@example.com', template: 'welcome', variables: {} });
    const neverRun = () =>
      workflow('typed', { startsOn: UserRegistered }, (registered) => {
        // @ts-expect-error: the event has no such field
        void registered.mail;
        // @ts-expect-error: a text has no fields
        void registered.email.domain;
        // @ts-expect-error: the result has no such field
        void mail.result(EmailSent).subject;
        return chain(
          // @ts-expect-error: any text is not the name of a template
          task(SendEmail, { to: registered.email, template: registered.name, variables: {} }),
          // @ts-expect-error: variables are texts
          task(SendEmail, { to: registered.email, template: 'welcome', variables: { name: 1 } }),
          // @ts-expect-error: a field is missing
          task(DeactivateUser, { userId: registered.userId }),
          // @ts-expect-error: a field is unknown
          task(ActivateUser, { userId: registered.userId, reason: 'none' }),
          // @ts-expect-error: an object is not a text
          task(ActivateUser, { userId: registered }),
          // @ts-expect-error: an event is not a command
          task(UserRegistered, registered),
        );
      });
    expect(neverRun).toBeInstanceOf(Function);
  });

  it('wrong references to results, items and conditions', () => {
    const input = z.object({ list: z.array(z.object({ email: z.email() })), count: z.number(), name: z.string() });
    const mail = () => task(SendEmail, { to: 'ada@example.com', template: 'welcome', variables: {} });
    const activate = (userId: string) => task(ActivateUser, { userId });
    const neverRun = () =>
      workflow('typed', { input }, ({ list, count, name }) =>
        group(
          // @ts-expect-error: what the step before answers has no such field
          chain(mail().answering(EmailSent), ({ subject }) => activate(subject)),
          // @ts-expect-error: a step before that does not say what it answers has no fields
          chain(mail(), ({ messageId }) => activate(messageId)),
          chord(group(mail().answering(EmailSent), mail()), (results) =>
            // @ts-expect-error: the results are an array
            task(DeactivateUser, { userId, reason: results.messageId }),
          ),
          // @ts-expect-error: a text is no array
          forEach(name, () => mail()),
          // @ts-expect-error: the items have no such field
          forEach(list, ({ mail: to }) => task(SendEmail, { to, template: 'welcome', variables: {} })),
          // @ts-expect-error: a number is never equal to a text
          when(equals(count, 'three'), mail()),
          // @ts-expect-error: an array has no order
          when(lessThan(list, list), mail()),
          // @ts-expect-error: the event has no such field
          waitForEvent(EmailSent, { match: { userId: name } }),
          // @ts-expect-error: no duration
          mail().timeout('soon'),
          // @ts-expect-error: only tasks are tried again
          chain(mail()).retry({ attempts: 2 }),
        ),
      );
    expect(neverRun).toBeInstanceOf(Function);
  });
});
