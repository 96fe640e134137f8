import {
  ActorRuntime,
  apply,
  defineActor,
  handle,
  on,
  reject,
  type ActorRuntimeOptions,
} from '@starter/event-sourcing';
import {
  createMessage,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  silentLogger,
  type Message,
  type MessageDefinition,
} from '@starter/messaging';
import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { z } from 'zod';

// A domain of its own for specs of the libraries: they know none, and must not depend on that of an app.

const schema = z.object({ amount: z.int() });
const options = { version: 1, owner: 'bank', schema } as const;

export const Deposit = { kind: 'command', type: 'account.deposit', ...options } as const;
export const Withdraw = { kind: 'command', type: 'account.withdraw', ...options } as const;
export const Deposited = { kind: 'event', type: 'account.deposited', ...options } as const;
export const Withdrawn = { kind: 'event', type: 'account.withdrawn', ...options } as const;

export const draft = <D extends MessageDefinition>(definition: D, data: { amount: number }) => ({ definition, data });

/** Sent for every withdrawal of more than 1 000. */
export const largeWithdrawal = { type: 'account.alert', version: 1 };

export interface AccountState {
  readonly balance: number;
}

export const account = defineActor<AccountState>('account', {
  initialState: { balance: 0 },
  decide: on(
    handle(Deposit, ({ data }) => [draft(Deposited, data)]),
    handle(Withdraw, ({ data }, { balance }) =>
      balance >= data.amount ? [draft(Withdrawn, data)] : reject(`the balance is only ${balance}`),
    ),
  ),
  evolve: on(
    apply(Deposited, ({ balance }, { data }) => ({ balance: balance + data.amount })),
    apply(Withdrawn, ({ balance }, { data }) => ({ balance: balance - data.amount })),
  ),
  outgoing: ({ type, data }) => {
    const { amount } = data as { amount: number };
    return type === Withdrawn.type && amount > 1_000
      ? [{ ...largeWithdrawal, id: randomUUID(), data: { amount } }]
      : [];
  },
});

/** A runtime with a cache of its own: what another process would be. Nothing is consumed or relayed. */
export function newBank(dataSource: DataSource, runtimeOptions: ActorRuntimeOptions = {}) {
  const messaging = new Messaging({
    service: 'bank',
    dataSource,
    commands: new MemoryCommandTransport(),
    events: new MemoryEventTransport(),
    logger: silentLogger,
    partitions: 1,
  });
  return { runtime: new ActorRuntime(messaging, runtimeOptions), messaging };
}

/** One delivery of a command to account `id`; the same `fields.id` is the same command again. */
export function execution(type: string, id: string, amount: number, fields: Partial<Message> = {}) {
  const message = createMessage({ type, version: 1, source: 'test', data: { amount }, ...fields });
  return {
    id,
    command: { data: { amount }, message },
    once: { consumer: 'bank.commands', messageId: message.id },
    answers: { request: message },
  };
}
