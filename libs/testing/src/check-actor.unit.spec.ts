import { apply, defineActor, handle, on, reject, type Actor } from '@starter/event-sourcing';
import fc from 'fast-check';
import { z } from 'zod';
import { account, Deposit, Deposited, draft, Withdraw, Withdrawn, type AccountState } from './bank.js';
import { checkActor, type ActorCheck } from './check-actor.js';

const amount = fc.integer({ min: 1, max: 1_000 });
const commands = fc.oneof(
  amount.map((n) => draft(Deposit, { amount: n })),
  amount.map((n) => draft(Withdraw, { amount: n })),
);
const invariants = { 'nobody is in debt': ({ state }: { state: AccountState }) => state.balance >= 0 };
const verify = (actor: Partial<Actor<AccountState>>, check: Partial<ActorCheck<AccountState>> = {}) =>
  checkActor({ ...account, ...actor }, { commands, invariants, ...check });

const deposit = (...decide: Parameters<typeof handle<AccountState, typeof Deposit>>) => on(handle(...decide));
const evolve = (...by: Parameters<typeof apply<AccountState, typeof Deposited>>) => on(apply(...by));
const onlyDeposits = { commands: amount.map((n) => draft(Deposit, { amount: n })), invariants: {} };
let calls = 0;

it('has nothing to say against an actor that keeps the rules', () => {
  const schema = z.object({ balance: z.int() });
  verify({ snapshot: { version: 1, schema } });
});

it('finds the shortest way to break an invariant, and tells how to find it again', () => {
  const trusting = on(
    handle<AccountState, typeof Deposit>(Deposit, ({ data }) => [draft(Deposited, data)]),
    handle<AccountState, typeof Withdraw>(Withdraw, ({ data }) => [draft(Withdrawn, data)]),
  );
  expect(() => verify({ decide: trusting })).toThrow(
    /^actor account: "nobody is in debt" does not hold after account.withdrawn; the state is {"balance":-1}\nafter the commands\n {2}account.withdraw {"amount":1}\nrepeat with TEST_SEED=\d+$/,
  );
});

it.each<[string, Partial<Actor<AccountState>>, Partial<ActorCheck<AccountState>>, RegExp]>([
  [
    'an event that does not fit its schema',
    { decide: deposit(Deposit, () => [draft(Deposited, { amount: 0.5 })]) },
    onlyDeposits,
    /account.deposited v1 cannot be sent: amount/,
  ],
  [
    'an event that the actor cannot apply',
    { decide: deposit(Deposit, ({ data }) => [draft(Deposited, data)]), evolve: new Map() },
    onlyDeposits,
    /has no apply/,
  ],
  [
    'a decision that is another one each time',
    { decide: deposit(Deposit, () => [draft(Deposited, { amount: (calls += 1) })]) },
    onlyDeposits,
    /account.deposit is decided in two ways on the same state/,
  ],
  [
    'a decision that changes the state',
    {
      decide: deposit(Deposit, (_, state) => {
        (state as { balance: number }).balance = 1;
        return [];
      }),
    },
    onlyDeposits,
    /Cannot assign to read only property 'balance'/,
  ],
  [
    'an event that changes the state before it',
    {
      decide: deposit(Deposit, ({ data }) => [draft(Deposited, data)]),
      evolve: evolve(Deposited, (state, { data }) => Object.assign(state, { balance: data.amount })),
    },
    onlyDeposits,
    /Cannot assign to read only property 'balance'/,
  ],
  [
    'an event that is applied in another way each time',
    {
      decide: deposit(Deposit, ({ data }) => [draft(Deposited, data)]),
      evolve: evolve(Deposited, () => ({ balance: (calls += 1) })),
    },
    onlyDeposits,
    /account.deposited is applied in two ways/,
  ],
  [
    'a snapshot that is of another state',
    {
      snapshot: {
        version: 1,
        schema: z.codec(z.object({}), z.object({ balance: z.int() }), {
          decode: () => ({ balance: 0 }),
          encode: () => ({}),
        }),
      },
    },
    {},
    /a snapshot gives another state than the one that it was taken of/,
  ],
  [
    'a command out that is another one each time',
    {},
    { commands: fc.constantFrom(draft(Deposit, { amount: 5_000 }), draft(Withdraw, { amount: 2_000 })) },
    /account.withdrawn sends different commands each time/,
  ],
  [
    'a repeated command that does something',
    {},
    { ...onlyDeposits, idempotent: [Deposit] },
    /account.deposit, repeated, decides/,
  ],
])('finds %s', (_, actor, check, problem) => {
  expect(() => verify(actor, check)).toThrow(problem);
});

it('accepts refusals', () => {
  verify({ decide: deposit(Deposit, () => reject('closed')) }, { ...onlyDeposits, idempotent: [Deposit] });
});

it('runs the same commands for the same seed', () => {
  const before = process.env['TEST_SEED'];
  process.env['TEST_SEED'] = '42';
  try {
    const seen = [0, 1].map(() => {
      const amounts: number[] = [];
      const decide = deposit(Deposit, ({ data }) => (amounts.push(data.amount), []));
      verify({ decide }, onlyDeposits);
      return amounts;
    });
    expect(seen[0]!.length).toBeGreaterThan(100);
    expect(seen[1]).toEqual(seen[0]);
  } finally {
    if (before === undefined) delete process.env['TEST_SEED'];
    else process.env['TEST_SEED'] = before;
  }
});

it('tells the invariants what was before and what has happened so far', () => {
  const counter = defineActor<number>('counter', {
    initialState: 0,
    decide: on(handle(Deposit, ({ data }) => [draft(Deposited, data)])),
    evolve: on(apply(Deposited, (count: number) => count + 1)),
  });
  checkActor(counter, {
    ...onlyDeposits,
    invariants: { 'counts each event': ({ state, before, events }) => state === before + 1 && state === events.length },
  });
});
