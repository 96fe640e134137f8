import { CompleteCampaign, EmailSent, SendEmail, StartCampaign } from '@starter/contracts';
import { chord, forEach, task, workflow } from '@starter/workflows';

/** One e-mail for each recipient, not too many at once; then the report. Those who cannot be reached are counted, no more. */
export const emailCampaign = workflow(
  'email-campaign',
  { startsOn: StartCampaign },
  ({ campaignId, name, recipients }) =>
    chord(
      forEach(recipients, (each) =>
        task(SendEmail, { to: each.to, template: 'newsletter', variables: { name: each.name } })
          .answering(EmailSent)
          .rateLimit('100/s'),
      ).minSuccess(0),
      (results) => task(CompleteCampaign, { campaignId, name, results }),
    ),
);
