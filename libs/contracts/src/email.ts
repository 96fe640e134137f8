import { z } from 'zod';
import { defineCommand, defineEvent } from './definition.js';
import { sealed } from './personal.js';

const owner = 'email-service';
const emailId = z.uuid();
/** Comes sealed by the service that knows the recipient, and is opened only to be sent. */
const to = sealed;
const template = z.enum(['welcome', 'verification-reminder']);
const variables = z.record(z.string(), sealed);

/** The e-mail's id is the command's id: sending the same command twice is one e-mail. */
export const SendEmail = defineCommand('email.send', {
  version: 1,
  owner,
  schema: z.object({ to, template, variables }),
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
