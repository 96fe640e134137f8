import { z } from 'zod';
import { defineCommand, defineEvent } from './definition.js';
import { json } from './json.js';
import { oneLine } from './one-line.js';
import { sealed, sealedFor } from './personal.js';

const owner = 'email-service';
const emailId = z.uuid();
/** Comes sealed by the service that knows the recipient, and is opened only to be sent. */
const to = sealed('email');
const template = z.enum(['welcome', 'verification-reminder', 'newsletter']);
const variables = z.record(z.string(), sealed('name', 'verificationToken'));

/** Else whoever may send an e-mail could have the data of others sent to an address of their own. */
const ofOneSubject = (email: { readonly to: string; readonly variables: Readonly<Record<string, string>> }): boolean =>
  Object.values(email.variables).every((text) => sealedFor(text) === sealedFor(email.to));

/** The e-mail's id is the command's id: sending the same command twice is one e-mail. */
export const SendEmail = defineCommand('email.send', {
  version: 1,
  owner,
  schema: z.object({ to, template, variables }).refine(ofOneSubject, {
    error: 'variables must be of the person to whom the e-mail goes',
    path: ['variables'],
  }),
});

export const EmailRequested = defineEvent('email.requested', {
  version: 1,
  owner,
  schema: z.object({ emailId, to, template, variables }),
});

/** Written before the mail server is asked, so that an attempt whose outcome was lost is known. */
export const EmailAttempted = defineEvent('email.attempted', {
  version: 1,
  owner,
  schema: z.object({ emailId, attempt: z.int().min(1) }),
});

export const EmailSent = defineEvent('email.sent', {
  version: 1,
  owner,
  schema: z.object({ emailId, to, template, messageId: z.string() }),
});

/** The mail server refused for good, or the attempts are used up. */
export const EmailFailed = defineEvent('email.failed', {
  version: 1,
  owner,
  schema: z.object({ emailId, to, template, reason: z.string() }),
});

const campaign = { campaignId: z.uuid(), name: oneLine(200) };

/** Of one campaign. The event that starts its workflow holds them all, and a record on a topic has at most 1 MB. */
export const mostRecipients = 2_000;

/** Starts the workflow `email-campaign`. */
export const StartCampaign = defineCommand('campaign.start', {
  version: 1,
  owner: 'orchestrator',
  key: 'campaignId',
  schema: z.object({
    ...campaign,
    recipients: z.array(z.object({ to: sealed('email'), name: sealed('name') })).max(mostRecipients),
  }),
});

/** Every e-mail of a campaign has been sent, or could not be. */
export const CompleteCampaign = defineCommand('campaign.complete', {
  version: 1,
  owner,
  key: 'campaignId',
  schema: z.object({
    ...campaign,
    /** What came of each e-mail, `null` for those that failed. */
    results: z.array(json),
  }),
});

/** The report on a campaign. */
export const CampaignCompleted = defineEvent('campaign.completed', {
  version: 1,
  owner,
  schema: z.object({
    campaignId: z.uuid(),
    name: z.string().min(1).max(200),
    sent: z.int().min(0),
    failed: z.int().min(0),
  }),
});
