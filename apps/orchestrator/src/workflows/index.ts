import {
  ActivateUser,
  CampaignCompleted,
  CompleteCampaign,
  DeactivateUser,
  ExportUsers,
  SendEmail,
  UserActivated,
  UserVerified,
} from '@starter/contracts';
import type { Workflow } from '../workflow/definition/builder.js';
import type { Contracts } from '../workflow/definition/contract-problems.js';
import { emailCampaign } from './email-campaign.workflow.js';
import { userOnboarding } from './user-onboarding.workflow.js';

/** Every workflow that this service runs by name. To add one, write it beside this file and name it here. */
export const workflows: readonly Workflow[] = [userOnboarding, emailCampaign];

/** What any workflow may send and wait for. */
export const contracts: Contracts = {
  commands: [SendEmail, CompleteCampaign, ActivateUser, DeactivateUser, ExportUsers],
  events: [UserVerified, UserActivated, CampaignCompleted],
};
