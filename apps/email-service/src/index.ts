import * as contracts from '@starter/contracts';
import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import { CreatePersonalKeys1760000000004 } from '@starter/personal-data';
import { personalDataSettings, type ServiceDefinition } from '@starter/service';
import { z } from 'zod';
import { EmailModule } from './email/email.module.js';
import { senderFormat } from './email/mailer.js';

export { campaign } from './campaign/campaign.decider.js';
export { emailDelivery } from './email/email.decider.js';

const settings = personalDataSettings.extend({
  /** `smtps://` for TLS, `smtp://…?requireTLS=true` for STARTTLS. */
  SMTP_URL: z.url({ protocol: /^smtps?$/ }).default('smtp://127.0.0.1:1025'),
  MAIL_FROM: z
    .string()
    .regex(senderFormat, 'must be Name <address@domain> or address@domain')
    .default('Starter <no-reply@example.com>'),
});

export const emailService: ServiceDefinition<z.output<typeof settings>> = {
  name: 'email-service',
  description: 'Sends e-mails and tells what became of them.',
  defaultPort: 3002,
  settings,
  entities: [],
  migrations: [CreateEventStore1760000000002, CreatePersonalKeys1760000000004],
  contracts,
  module: ({ PERSONAL_DATA_KEY, SMTP_URL, MAIL_FROM }) =>
    EmailModule.forRoot({
      mailer: { url: SMTP_URL, from: MAIL_FROM },
      // Who seals what is in a `SendEmail`.
      personalData: { masterKey: PERSONAL_DATA_KEY, follows: ['user-service'] },
    }),
};
