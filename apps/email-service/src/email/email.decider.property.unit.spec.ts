import { EmailAttempted, EmailFailed, EmailRequested, EmailSent, SendEmail, type DataOf } from '@starter/contracts';
import type { RecordedEvent } from '@starter/event-sourcing';
import { checkActor, sealedText } from '@starter/testing';
import fc from 'fast-check';
import { emailDelivery } from './email.decider.js';
import { RecordEmailFailed, RecordEmailSent } from './email-outcome.js';

const emailId = '01980000-0000-7000-8000-000000000001';
const send = fc
  .constantFrom('ada@example.com', 'bob@example.com')
  .map((to) =>
    SendEmail.of({ to: sealedText(to, 'email'), template: 'welcome', variables: { name: sealedText('Ada') } }),
  );
const sent = fc.constantFrom('<1@example.com>', '<2@example.com>');
const failed = fc.constantFrom('refused', 'not reached');
const commands = fc.oneof(
  // Many attempts before there is an outcome.
  { weight: 8, arbitrary: send },
  { weight: 1, arbitrary: sent.map((messageId) => RecordEmailSent.of({ emailId, messageId })) },
  { weight: 1, arbitrary: failed.map((reason) => RecordEmailFailed.of({ emailId, reason })) },
);
const ofType = (events: readonly RecordedEvent[], { type }: { type: string }) =>
  events.filter((event) => event.type === type);

it('keeps its rules whatever the commands', () => {
  checkActor(emailDelivery, {
    commands,
    envelope: { id: emailId },
    idempotent: [RecordEmailSent, RecordEmailFailed],
    invariants: {
      'an e-mail is requested first, and once': ({ events }) =>
        events.every(({ type }, index) => (type === EmailRequested.type) === (index === 0)),
      'attempts are counted from 1 without gaps': ({ events, state }) => {
        const attempts = ofType(events, EmailAttempted).map(({ data }) => (data as { attempt: number }).attempt);
        expect(attempts).toEqual(attempts.map((_, index) => index + 1));
        expect(state).toMatchObject({ attempts: attempts.length });
      },
      'it has one outcome, which is final': ({ before }) => before.status !== 'sent' && before.status !== 'failed',
      'no outcome without an attempt': ({ events, event: { type } }) =>
        ![EmailSent.type, EmailFailed.type].includes(type) || ofType(events, EmailAttempted).length > 0,
      'every event is of the one e-mail, and the outcome names who it was for': ({ events, event }) => {
        expect(event.data).toMatchObject({ emailId });
        const { to } = events[0]?.data as DataOf<typeof EmailRequested>;
        if (event.type !== EmailAttempted.type) expect(event.data).toMatchObject({ to });
      },
    },
  });
});
