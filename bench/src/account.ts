import { apply, defineActor, handle, on } from '@starter/event-sourcing';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { z } from 'zod';
import { WrongWorkError } from './rounds.js';

// The smallest domain that shows lost and repeated work: accounts that take deposits.

const schema = z.object({ accountId: z.string(), amount: z.int() });
export type DepositData = z.infer<typeof schema>;

const options = { version: 1, owner: 'bench', schema, key: 'accountId' } as const;
export const Deposit = { kind: 'command', type: 'account.deposit', ...options } as const;
export const Deposited = { kind: 'event', type: 'account.deposited', ...options } as const;

export const account = defineActor<number>('account', {
  initialState: 0,
  decide: on(handle(Deposit, ({ data }) => [{ definition: Deposited, data }])),
  evolve: on(apply(Deposited, (balance, { data }) => balance + data.amount)),
});

/** The stream of an account. */
export const streamOf = (accountId: string): string => `${account.name}-${accountId}`;

/** Deposits into accounts at random, the same for the same seed. */
export function deposits(count: number, accounts: number, seed: number): DepositData[] {
  const random = xoroshiro128plus(seed);
  return Array.from({ length: count }, () => ({
    accountId: String(uniformInt(random, 1, accounts)),
    amount: uniformInt(random, 1, 1_000),
  }));
}

/** What is to be found of a stream when each of its deposits has been done once. */
export interface Total {
  readonly stream: string;
  readonly count: number;
  /** Sequence of the last one; equal to `count` when there are no gaps. */
  readonly last: number;
  readonly amount: number;
}

export function totalsOf(done: readonly DepositData[]): Total[] {
  const totals = new Map<string, Total>();
  for (const { accountId, amount } of done) {
    const stream = streamOf(accountId);
    const { count, amount: before } = totals.get(stream) ?? { count: 0, amount: 0 };
    totals.set(stream, { stream, count: count + 1, last: count + 1, amount: before + amount });
  }
  return [...totals.values()];
}

/** @throws WrongWorkError when anything is missing, repeated or out of sequence */
export function expectTotals(found: readonly Total[], expected: readonly Total[]): void {
  const byStream = new Map(found.map((total) => [total.stream, total]));
  const wrong = expected.filter(({ stream, count, last, amount }) => {
    const total = byStream.get(stream);
    return total?.count !== count || total.last !== last || total.amount !== amount;
  });
  const [first] = wrong;
  if (first) {
    const [is, ought] = [JSON.stringify(byStream.get(first.stream)), JSON.stringify(first)];
    throw new WrongWorkError(`${wrong.length} of ${expected.length} streams are wrong; one is ${is} and not ${ought}`);
  }
  if (found.length > expected.length) throw new WrongWorkError(`${found.length - expected.length} streams too many`);
}
