import { defineCommand, EmailFailed, EmailSent } from '@starter/contracts';

// Commands of the service to its own actor: they are executed and never sent, so that no queue or contract knows them.
const owner = 'email-service';

/** The mail server has taken the e-mail. */
export const RecordEmailSent = defineCommand('email.record-sent', {
  version: 1,
  owner,
  key: 'emailId',
  schema: EmailSent.schema.pick({ emailId: true, messageId: true }),
});

/** No further attempt will be made. */
export const RecordEmailFailed = defineCommand('email.record-failed', {
  version: 1,
  owner,
  key: 'emailId',
  schema: EmailFailed.schema.pick({ emailId: true, reason: true }),
});
