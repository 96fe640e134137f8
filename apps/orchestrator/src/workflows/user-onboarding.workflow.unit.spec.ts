import {
  ActivateUser,
  DeactivateUser,
  DeliverEvent,
  EventExpected,
  SendEmail,
  TimerFired,
  WorkflowCompleted,
  WorkflowFailed,
  WorkflowStuck,
  type DataOf,
} from '@starter/contracts';
import { converse, sealedText, type Conversation } from '@starter/testing';
import { startOf, workflowInstance, type WorkflowState } from '@starter/workflows';
import { userOnboarding } from './user-onboarding.workflow.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const userId = '01980000-0000-7000-8000-000000000002';
const ada = {
  userId,
  email: sealedText('ada@example.com', 'email'),
  name: sealedText('Ada'),
  verificationToken: sealedText('token', 'verificationToken'),
  registeredAt: new Date('2026-01-02T03:04:05.678Z'),
};
const variables = { name: ada.name, code: ada.verificationToken };
const welcome = SendEmail.of({ to: ada.email, template: 'welcome', variables });
const reminder = SendEmail.of({ to: ada.email, template: 'verification-reminder', variables });
const activate = ActivateUser.of({ userId });
const deactivate = DeactivateUser.of({ userId, reason: 'the e-mail address was not verified' });

const registered = () => converse(workflowInstance, workflowId).when(startOf(userOnboarding, workflowId, ada));
const welcomed = () => registered().whenSucceeded(SendEmail);
const days = (timerId: string) => TimerFired.of({ workflowId, timerId });

function verify(run: Conversation<WorkflowState>) {
  const expected = run.events.find(({ type }) => type === EventExpected.type)?.data as DataOf<typeof EventExpected>;
  expect(expected).toMatchObject({ event: 'user.verified', match: { userId } });
  return run.when(DeliverEvent.of({ workflowId, correlation: expected.correlation, data: { userId } }));
}

it('welcomes whoever registers, and activates the user once the address is verified', () => {
  const run = registered().thenSends(welcome).whenSucceeded(SendEmail).thenSends();
  verify(run)
    .thenSends(activate)
    .whenSucceeded(ActivateUser, { userId })
    .thenSends()
    .thenEndsWith(WorkflowCompleted.of({ workflowId, result: { userId } }));
});

it('activates the user who was faster than the reply of the mail server', () => {
  verify(registered()).thenSends().whenSucceeded(SendEmail).thenSends(activate);
});

it('reminds after a day, and activates who verifies then', () => {
  const run = welcomed().when(days('deadline/0.1.0')).thenSends(reminder).whenSucceeded(SendEmail).thenSends();
  verify(run).thenSends(activate);
});

it('deactivates who has not verified the address within a week', () => {
  welcomed()
    .when(days('deadline/0.1.0'))
    .whenSucceeded(SendEmail)
    .when(days('deadline/0.1.1.1'))
    .thenSends(deactivate)
    .whenSucceeded(DeactivateUser)
    .thenSends()
    .thenEndsWith(WorkflowFailed.of({ workflowId, reason: '0.1.1.1 waitForEvent did not end in time' }));
});

it('deactivates whoever cannot be reached', () => {
  registered()
    .whenFailed(SendEmail, '550 no such user')
    .thenSends(deactivate)
    .whenSucceeded(DeactivateUser)
    .thenSends()
    .thenEndsWith(WorkflowFailed.of({ workflowId, reason: '0.0 email.send failed: 550 no such user' }));
});

it('deactivates whoever cannot be activated, and calls a human when that fails as well', () => {
  verify(welcomed())
    .whenFailed(ActivateUser, 'the user is not registered')
    .thenSends(deactivate)
    .whenFailed(DeactivateUser, 'the user is not registered')
    .thenSends()
    .thenEndsWith(
      WorkflowStuck.of({
        workflowId,
        path: '0',
        reason:
          'the compensation of 0 chain failed: the user is not registered; it ran because 0.2 user.activate failed: the user is not registered',
      }),
    );
});

it('starts once', () => {
  registered()
    .when(startOf(userOnboarding, workflowId, ada))
    .thenNothing()
    .thenSends();
});
