import { EmailAttempted, EmailFailed, EmailRequested, EmailSent, SendEmail } from '@starter/contracts';
import type { Draft } from '@starter/messaging';
import { given, sealedText } from '@starter/testing';
import { emailDelivery } from './email.decider.js';
import { RecordEmailFailed, RecordEmailSent } from './email-outcome.js';

const emailId = '01980000-0000-7000-8000-000000000001';
const to = sealedText('ada@example.com', 'email');
const template = 'welcome' as const;
const messageId = `<${emailId}@example.com>`;
const variables = { name: sealedText('Ada') };

const send = SendEmail.of({ to, template, variables });
const recordSent = RecordEmailSent.of({ emailId, messageId });
const recordFailed = RecordEmailFailed.of({ emailId, reason: '550 no such user' });

const requested = EmailRequested.of({ emailId, to, template, variables });
const attempted = (attempt: number) => EmailAttempted.of({ emailId, attempt });
const sent = EmailSent.of({ emailId, to, template, messageId });
const failed = EmailFailed.of({ emailId, to, template, reason: '550 no such user' });

/** The actor is named after the command that asked for the e-mail. */
const when = (past: readonly Draft[], command: Draft) => given(emailDelivery, ...past).when(command, { id: emailId });

describe('the delivery of an e-mail', () => {
  it('begins with a request and a first attempt', () => {
    when([], send).then(requested, attempted(1));
  });

  it('counts one more attempt while the outcome of the last one is not known', () => {
    when([requested, attempted(1)], send).then(attempted(2));
    when([requested, attempted(1), attempted(2)], send).then(attempted(3));
  });

  it.each([
    ['sent', sent],
    ['failed', failed],
  ])('is not attempted again when it is %s', (_, outcome) => {
    when([requested, attempted(1), outcome], send).then();
  });

  it('ends as sent or as failed', () => {
    when([requested, attempted(1)], recordSent).then(sent);
    when([requested, attempted(1)], recordFailed).then(failed);
  });

  it.each([
    ['sent', sent],
    ['failed', failed],
  ])('keeps its first outcome when it is %s', (_, outcome) => {
    when([requested, attempted(1), outcome], recordSent).then();
    when([requested, attempted(1), outcome], recordFailed).then();
  });

  it('has no outcome before it was requested', () => {
    when([], recordSent).thenRejected('the e-mail was never requested');
    when([], recordFailed).thenRejected('the e-mail was never requested');
  });

  it('tells who it is for, how often it was attempted and what came of it', () => {
    expect(given(emailDelivery).state).toEqual({ status: 'new' });
    expect(given(emailDelivery, requested, attempted(1)).state).toEqual({
      status: 'attempting',
      to,
      template,
      attempts: 1,
    });
    expect(given(emailDelivery, requested, attempted(1), attempted(2), sent).state).toEqual({
      status: 'sent',
      to,
      template,
      attempts: 2,
      messageId,
    });
    expect(given(emailDelivery, requested, attempted(1), failed).state).toEqual({
      status: 'failed',
      to,
      template,
      attempts: 1,
      reason: '550 no such user',
    });
  });
});
