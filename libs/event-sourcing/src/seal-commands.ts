import { erasedReason, redact, subjectOf, type Sealing, type Transaction } from '@starter/messaging';
import { z } from 'zod';
import type { Verdict, Work } from './execution.js';

export interface SealedCommands {
  /** What is to be decided. */
  readonly works: readonly Work[];
  /** Commands about somebody who was erased. */
  readonly refused: readonly Verdict[];
  /** The work that took the place of one of the batch; absent for a work that was taken as it is. */
  readonly sealedAs: ReadonlyMap<Work, Work>;
}

/**
 * Seals the personal data of commands that come plain, so that deciders, states, events, and what is kept of refusals never
 * see it.
 */
export async function sealCommands(tx: Transaction, works: readonly Work[], sealing: Sealing): Promise<SealedCommands> {
  const items = works.flatMap((work) => itemOf(work));
  if (items.length === 0) return { works, refused: [], sealedAs: new Map() };
  const data = await sealing.seal(tx, items);
  const sealedAs = new Map(items.map((item, index) => [item.work, withData(item, data[index])]));
  const erased = new Set(items.filter((_, index) => data[index] === undefined).map(({ work }) => work));
  return {
    works: works.filter((work) => !erased.has(work)).map((work) => sealedAs.get(work) ?? work),
    refused: items.filter(({ work }) => erased.has(work)).map((item) => refusal(item, sealedAs.get(item.work))),
    sealedAs,
  };
}

type Item = ReturnType<typeof itemOf>[number];

function itemOf(work: Work) {
  const { data, message } = work.execution.command;
  const definition = work.actor.decide.get(message.type)?.definition;
  return definition?.personalTo === undefined ? [] : [{ definition, data, work }];
}

/** The message, too: it may have to be kept. */
function withData({ definition, data: plain, work }: Item, data: unknown): Work {
  if (data === plain) return work;
  const { execution } = work;
  const { message } = execution.command;
  const kept =
    data === undefined
      ? redact(definition, message)
      : { ...message, version: definition.version, data: z.encode(definition.schema, data) };
  return { ...work, execution: { ...execution, command: { data, message: kept } } };
}

const refusal = (item: Item, work = item.work): Verdict => ({
  work,
  kind: 'rejected',
  reason: erasedReason(subjectOf(item)),
});
