import {
  ActivateUser,
  DeactivateUser,
  SendEmail,
  WorkflowCompleted,
  WorkflowFailed,
  WorkflowStuck,
} from '@starter/contracts';
import { converse, sealedText } from '@starter/testing';
import { startOf } from '../workflow/workflow-registry.js';
import { workflowInstance } from '../workflow/engine/workflow.decider.js';
import { userOnboarding } from './user-onboarding.workflow.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const userId = '01980000-0000-7000-8000-000000000002';
const ada = {
  userId,
  email: sealedText('ada@example.com'),
  name: sealedText('Ada'),
  registeredAt: new Date('2026-01-02T03:04:05.678Z'),
};
const welcome = SendEmail.of({ to: ada.email, template: 'welcome', variables: { name: ada.name } });
const activate = ActivateUser.of({ userId });
const deactivate = DeactivateUser.of({ userId, reason: 'the welcome e-mail could not be delivered' });

const registered = () => converse(workflowInstance, workflowId).when(startOf(userOnboarding, workflowId, ada));

it('welcomes whoever registers, and then activates the user', () => {
  registered()
    .thenSends(welcome)
    .whenSucceeded(SendEmail)
    .thenSends(activate)
    .whenSucceeded(ActivateUser, { userId })
    .thenSends()
    .thenEndsWith(WorkflowCompleted.of({ workflowId, result: { userId } }));
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
  registered()
    .whenSucceeded(SendEmail)
    .whenFailed(ActivateUser, 'the user is not registered')
    .thenSends(deactivate)
    .whenFailed(DeactivateUser, 'the user is not registered')
    .thenSends()
    .thenEndsWith(
      WorkflowStuck.of({
        workflowId,
        path: '0',
        reason:
          'the compensation of 0 chain failed: the user is not registered; it ran because 0.1 user.activate failed: the user is not registered',
      }),
    );
});

it('starts once', () => {
  registered()
    .when(startOf(userOnboarding, workflowId, ada))
    .thenNothing()
    .thenSends();
});
