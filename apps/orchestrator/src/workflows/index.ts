import { ActivateUser, DeactivateUser, SendEmail, UserActivated, UserVerified } from '@starter/contracts';
import type { CommandContract, Workflow } from '../workflow/definition/builder.js';
import type { EventContract } from '../workflow/workflow-registry.js';
import { userOnboarding } from './user-onboarding.workflow.js';

/** Every workflow that this service runs. To add one, write it beside this file and name it here. */
export const workflows: readonly Workflow[] = [userOnboarding];

/** Every command that a workflow may send. */
export const commands: readonly CommandContract[] = [SendEmail, ActivateUser, DeactivateUser];

/** Every event that a workflow may wait for. */
export const events: readonly EventContract[] = [UserVerified, UserActivated];
