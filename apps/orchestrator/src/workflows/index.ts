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
import type { Contracts, Workflow } from '@starter/workflows';
import { emailCampaign } from './email-campaign.workflow.js';
import { userOnboarding } from './user-onboarding.workflow.js';

/** Every workflow that this service runs by name. To add one, write it beside this file and name it here. */
export const workflows: readonly Workflow[] = [userOnboarding, emailCampaign];

/** What any workflow may send and wait for. */
export const workflowContracts: Contracts = {
  commands: [SendEmail, CompleteCampaign, ActivateUser, DeactivateUser, ExportUsers],
  events: [UserVerified, UserActivated, CampaignCompleted],
};
