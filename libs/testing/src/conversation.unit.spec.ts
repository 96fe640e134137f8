import { apply, CommandFailed, CommandSucceeded, defineActor, handle, on, reject } from '@starter/event-sourcing';
import { account, Deposit, Deposited, draft, Withdraw, Withdrawn } from './bank.js';
import { converse } from './conversation.js';

/** Pays in what it takes out elsewhere; ids are fixed, as those of commands that go out have to be. */
const transfer = defineActor<{ readonly log: readonly string[] }>('transfer', {
  initialState: { log: [] },
  decide: on(
    handle(Deposit, ({ data, message }) =>
      message.time === '2026-01-01T00:00:00.000Z' ? [draft(Withdrawn, data)] : reject(`closed at ${message.time}`),
    ),
    handle(CommandSucceeded, () => []),
    handle(CommandFailed, () => [draft(Deposited, { amount: 1 })]),
  ),
  evolve: on(
    apply(Withdrawn, ({ log }: { log: readonly string[] }, { time }) => ({ log: [...log, time.toISOString()] })),
    apply(Deposited, ({ log }: { log: readonly string[] }) => ({ log: [...log, 'returned'] })),
  ),
  outgoing: ({ type, sequence, data }) =>
    type === Withdrawn.type
      ? [
          {
            type: Withdraw.type,
            version: 1,
            id: `withdrawal-${sequence}`,
            data,
            replyTo: { address: 'a', subject: 's' },
          },
        ]
      : [],
});

it('follows commands, what they set off, and the replies', () => {
  const conversation = converse(transfer, '1')
    .when(draft(Deposit, { amount: 3 }))
    .thenEndsWith(draft(Withdrawn, { amount: 3 }))
    .thenSends(draft(Withdraw, { amount: 3 }))
    .whenFailed(Withdraw, 'empty')
    .thenSends()
    .thenEndsWith(draft(Deposited, { amount: 1 }));
  expect(conversation.state).toEqual({ log: ['2026-01-01T00:00:00.000Z', 'returned'] });
  expect(conversation.events.map(({ sequence }) => sequence)).toEqual([1, 2]);
});

it('answers the oldest open request, once', () => {
  const conversation = converse(transfer, '1')
    .when(draft(Deposit, { amount: 3 }))
    .whenSucceeded(Withdraw)
    .thenNothing();
  expect(() => conversation.whenSucceeded(Withdraw)).toThrow('no account.withdraw waits for a reply, but nothing');
});

it('sets the time', () => {
  converse(transfer, '1')
    .at('2026-02-01T00:00:00.000Z')
    .when(draft(Deposit, { amount: 3 }))
    .thenRejected('closed at 2026-02-01T00:00:00.000Z');
});

it('fails when something else was sent or decided', () => {
  const conversation = converse(account, '1').when(draft(Deposit, { amount: 3 }));
  expect(() => conversation.thenSends(draft(Deposit, { amount: 3 }))).toThrow();
  expect(() => conversation.thenEndsWith(draft(Deposited, { amount: 4 }))).toThrow();
  expect(() => conversation.thenNothing()).toThrow();
  expect(() => conversation.thenRejected('no')).toThrow();
});
