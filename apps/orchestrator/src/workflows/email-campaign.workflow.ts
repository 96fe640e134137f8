import { CompleteCampaign, EmailSent, sealed, SendEmail } from '@starter/contracts';
import { z } from 'zod';
import { chord, forEach, task, workflow } from '../workflow/definition/builder.js';

const recipient = z.object({ to: sealed, name: sealed });
const input = z.object({ campaignId: z.uuid(), name: z.string().min(1).max(200), recipients: z.array(recipient) });

/** One e-mail for each recipient, not too many at once; then the report. Those who cannot be reached are counted, no more. */
export const emailCampaign = workflow('email-campaign', { input }, ({ campaignId, name, recipients }) =>
  chord(
    forEach(recipients, (each) =>
      task(SendEmail, { to: each.to, template: 'newsletter', variables: { name: each.name } })
        .answering(EmailSent)
        .rateLimit('100/s'),
    ).minSuccess(0),
    (results) => task(CompleteCampaign, { campaignId, name, results }),
  ),
);
