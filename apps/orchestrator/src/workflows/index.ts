import { ActivateUser, DeactivateUser, SendEmail } from '@starter/contracts';
import type { CommandContract, Workflow } from '../workflow/definition/builder.js';
import { userOnboarding } from './user-onboarding.workflow.js';

/** Every workflow that this service runs. To add one, write it beside this file and name it here. */
export const workflows: readonly Workflow[] = [userOnboarding];

/** Every command that a workflow may send. */
export const commands: readonly CommandContract[] = [SendEmail, ActivateUser, DeactivateUser];
