import type { DataOf, SendEmail } from '@starter/contracts';
import type { Content, Template } from './templates/template.js';
import { newsletter } from './templates/newsletter.js';
import { verificationReminder } from './templates/verification-reminder.js';
import { welcome } from './templates/welcome.js';

type Request = Pick<DataOf<typeof SendEmail>, 'template' | 'variables'>;

/** Every template that the contract names. */
const templates: Readonly<Record<Request['template'], Template>> = {
  welcome,
  'verification-reminder': verificationReminder,
  newsletter,
};

/** @throws MailError of the content, naming every variable that is missing or does not fit */
export const render = ({ template, variables }: Request): Content => templates[template](variables);
