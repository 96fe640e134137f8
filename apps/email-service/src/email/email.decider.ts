import { EmailAttempted, EmailFailed, EmailRequested, EmailSent, SendEmail, type DataOf } from '@starter/contracts';
import { apply, defineActor, handle, on, reject } from '@starter/event-sourcing';
import { RecordEmailFailed, RecordEmailSent } from './email-outcome.js';

interface Email extends Pick<DataOf<typeof SendEmail>, 'to' | 'template'> {
  /** Attempts begun; what became of the last one is open while the status is `attempting`. */
  readonly attempts: number;
}

export type EmailState =
  | { readonly status: 'new' }
  | (Email & { readonly status: 'attempting' })
  | (Email & { readonly status: 'sent'; readonly messageId: string })
  | (Email & { readonly status: 'failed'; readonly reason: string });

/** One e-mail; its id is the id of the `SendEmail` message that asked for it. */
export const emailDelivery = defineActor<EmailState>('email', {
  initialState: { status: 'new' },
  isOver: ({ status }) => status === 'sent' || status === 'failed',
  decide: on(
    handle(SendEmail, ({ data, message: { id: emailId } }, state) => {
      if (state.status === 'new') {
        return [EmailRequested.of({ emailId, ...data }), EmailAttempted.of({ emailId, attempt: 1 })];
      }
      return state.status === 'attempting' ? [EmailAttempted.of({ emailId, attempt: state.attempts + 1 })] : [];
    }),
    handle(RecordEmailSent, ({ data }, state) => {
      if (state.status === 'new') return reject('the e-mail was never requested');
      return state.status === 'attempting' ? [EmailSent.of({ ...data, to: state.to, template: state.template })] : [];
    }),
    handle(RecordEmailFailed, ({ data }, state) => {
      if (state.status === 'new') return reject('the e-mail was never requested');
      return state.status === 'attempting' ? [EmailFailed.of({ ...data, to: state.to, template: state.template })] : [];
    }),
  ),
  evolve: on(
    apply(EmailRequested, (_, { data: { to, template } }) => ({ status: 'attempting', to, template, attempts: 0 })),
    apply(EmailAttempted, (state, { data }) =>
      state.status === 'attempting' ? { ...state, attempts: data.attempt } : state,
    ),
    apply(EmailSent, (state, { data }) =>
      state.status === 'attempting' ? { ...state, status: 'sent', messageId: data.messageId } : state,
    ),
    apply(EmailFailed, (state, { data }) =>
      state.status === 'attempting' ? { ...state, status: 'failed', reason: data.reason } : state,
    ),
  ),
});
