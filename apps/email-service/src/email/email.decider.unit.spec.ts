import { EmailAttempted, EmailFailed, EmailRequested, EmailSent, SendEmail } from '@starter/contracts';
import { decide, evolve, type Command } from '@starter/event-sourcing';
import { createMessage, type Draft } from '@starter/messaging';
import { emailDelivery, type EmailState } from './email.decider.js';
import { RecordEmailFailed, RecordEmailSent } from './email-outcome.js';

const emailId = '01980000-0000-7000-8000-000000000001';
const to = 'ada@example.com';
const template = 'welcome' as const;
const messageId = `<${emailId}@example.com>`;
const variables = { name: 'Ada' };

const send = SendEmail.of({ to, template, variables });
const recordSent = RecordEmailSent.of({ emailId, messageId });
const recordFailed = RecordEmailFailed.of({ emailId, reason: '550 no such user' });

const requested = EmailRequested.of({ emailId, to, template, variables });
const attempted = (attempt: number) => EmailAttempted.of({ emailId, attempt });
const sent = EmailSent.of({ emailId, to, template, messageId });
const failed = EmailFailed.of({ emailId, to, template, reason: '550 no such user' });

const stateAfter = (events: readonly Draft[]): EmailState =>
  events.reduce<EmailState>(
    (state, { definition, data }, index) =>
      evolve(emailDelivery, state, { type: definition.type, data, sequence: index + 1, time: new Date(0) }),
    emailDelivery.initialState,
  );

const given = (...events: Draft[]) => ({
  when: ({ definition, data }: Draft) => {
    const { type, version } = definition;
    const command: Command = { data, message: createMessage({ id: emailId, type, version, source: 'spec', data }) };
    return decide(emailDelivery, command, stateAfter(events));
  },
});

describe('the delivery of an e-mail', () => {
  it('begins with a request and a first attempt', () => {
    expect(given().when(send)).toEqual([requested, attempted(1)]);
  });

  it('counts one more attempt while the outcome of the last one is not known', () => {
    expect(given(requested, attempted(1)).when(send)).toEqual([attempted(2)]);
    expect(given(requested, attempted(1), attempted(2)).when(send)).toEqual([attempted(3)]);
  });

  it.each([
    ['sent', sent],
    ['failed', failed],
  ])('is not attempted again when it is %s', (_, outcome) => {
    expect(given(requested, attempted(1), outcome).when(send)).toEqual([]);
  });

  it('ends as sent or as failed', () => {
    expect(given(requested, attempted(1)).when(recordSent)).toEqual([sent]);
    expect(given(requested, attempted(1)).when(recordFailed)).toEqual([failed]);
  });

  it.each([
    ['sent', sent],
    ['failed', failed],
  ])('keeps its first outcome when it is %s', (_, outcome) => {
    expect(given(requested, attempted(1), outcome).when(recordSent)).toEqual([]);
    expect(given(requested, attempted(1), outcome).when(recordFailed)).toEqual([]);
  });

  it('has no outcome before it was requested', () => {
    expect(given().when(recordSent)).toEqual({ rejected: 'the e-mail was never requested' });
    expect(given().when(recordFailed)).toEqual({ rejected: 'the e-mail was never requested' });
  });

  it('tells who it is for, how often it was attempted and what came of it', () => {
    expect(stateAfter([])).toEqual({ status: 'new' });
    expect(stateAfter([requested, attempted(1)])).toEqual({ status: 'attempting', to, template, attempts: 1 });
    expect(stateAfter([requested, attempted(1), attempted(2), sent])).toEqual({
      status: 'sent',
      to,
      template,
      attempts: 2,
      messageId,
    });
    expect(stateAfter([requested, attempted(1), failed])).toEqual({
      status: 'failed',
      to,
      template,
      attempts: 1,
      reason: '550 no such user',
    });
  });
});
