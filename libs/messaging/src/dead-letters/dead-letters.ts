import type { DataSource } from 'typeorm';
import { discardable, handleBatch, type OrderedEvent } from '../consumer/event-batch.js';
import { inTransaction, type Transaction } from '../database/transaction.js';
import { acquitSuspects } from '../inbox/suspect-list.js';
import { keptOf, recordDiscarded, restoreDiscarded, type Discarded } from '../inbox/discarded.js';
import { admitOnce } from '../inbox/inbox.js';
import { defaultInboxRetentionMs } from '../inbox/retention.js';
import type { SequencedMessage } from '../inbox/sequence.js';
import { createMessage, type Message } from '../message.js';
import { discard } from '../outcome.js';
import { Outbox } from '../outbox/outbox.js';
import { replyEntry } from '../reply.js';
import { heldReplies } from './tell-senders.js';
import { storableText } from '../storable.js';
import {
  conditionsOf,
  deadLetterLines,
  groupDeadLetters,
  listDeadLetters,
  showDeadLetter,
  type DeadLetterDetails,
  type DeadLetterFilter,
  type DeadLetterGroup,
  type DeadLetterPage,
} from './dead-letter-view.js';
import {
  lockOperators,
  redriveParked,
  redriveStored,
  removeStored,
  selectCandidates,
  type Candidate,
  type Stored,
} from './dead-letter-rows.js';

export interface DeadLettersOptions {
  readonly dataSource: DataSource;
  /** The service whose database it is: the source of the replies that are sent. */
  readonly service: string;
  /** Default: one of its own; the relay finds its rows when it looks next. */
  readonly outbox?: Outbox;
  /** How long the inbox remembers a message, in milliseconds: what failed earlier may take effect twice. Default 30 days. */
  readonly dedupeRetentionMs?: number;
  /** Blanks the personal data of what is discarded. Default: it is kept as it is. */
  readonly redact?: (message: Message) => Message;
}

/** Which ones: `'all'` that are open, or those that fit a filter that says something. */
export type Selection = 'all' | (Omit<DeadLetterFilter, 'status'> & { readonly status?: 'open' });

/** The same, or messages that were discarded: `{ status: 'discarded' }` is all of them. */
export type RedriveSelection = 'all' | (Omit<DeadLetterFilter, 'status'> & { readonly status?: 'open' | 'discarded' });

export interface Redrive {
  readonly redriven: number;
  /** Cannot be redriven: no message, or one that its consumer can never take. */
  readonly skipped: number;
}

export interface Discard {
  readonly discarded: number;
}

/** Most dead letters in one transaction. */
const batchSize = 500;

/** What operators do with the dead letters in the database of a service: from a command line, an HTTP API or a console. */
export class DeadLetters {
  private readonly outbox: Outbox;

  constructor(private readonly options: DeadLettersOptions) {
    this.outbox = options.outbox ?? new Outbox();
  }

  /** At most `limit` (default 50), the newest first; `after` is the `next` of the page before. */
  list(filter: DeadLetterFilter = {}, page: { after?: string; limit?: number } = {}): Promise<DeadLetterPage> {
    return listDeadLetters(this.options.dataSource, filter, page);
  }

  /** By consumer, type and kind of error, with counts and times, the most frequent first. */
  groups(filter: DeadLetterFilter = {}): Promise<DeadLetterGroup[]> {
    return groupDeadLetters(this.options.dataSource, filter);
  }

  /** Payload, attempts and history of a message, once per consumer in which it failed; none when it is no dead letter. */
  show(id: string, consumer?: string): Promise<DeadLetterDetails[]> {
    return showDeadLetter(this.options.dataSource, id, consumer);
  }

  /** Lines of JSON ({@link DeadLetterDetails}), the newest first. */
  lines(filter: DeadLetterFilter = {}): AsyncGenerator<string> {
    return deadLetterLines(this.options.dataSource, filter);
  }

  /**
   * Gives them to their consumers again, from attempt 1 and to no other consumer, or to the broker that has refused them; what
   * fails again is the same dead letter with one redrive more. Those that fail meanwhile are left alone. Many are redriven in
   * several transactions.
   * A sequenced event that was discarded takes effect out of its order: its successors have gone ahead.
   * @throws Error when an id is unknown or cannot be redriven; unless `confirmOld`, when one failed so long ago that the inbox
   * may have forgotten it; unless `confirmLate`, when one would take effect out of its order; nothing is redriven then
   */
  async redrive(selection: RedriveSelection, { confirmOld = false, confirmLate = false } = {}): Promise<Redrive> {
    const filter = filterOf(selection);
    const before = await this.now();
    await this.refuseUnknown(filter);
    const { unfit, old, late } = await this.count(filter);
    if (filter.ids && unfit > 0) {
      throw new Error(
        `${unfit} of them cannot be redriven: they are no message, have no place in the order of their consumer, or are kept without their personal data. Export them, and let their sender send again`,
      );
    }
    if (old > 0 && !confirmOld) {
      throw new Error(
        `${old} of them failed longer ago than messages are remembered, and could take effect twice. Look at them, and confirm (confirmOld, --yes) if that does no harm`,
      );
    }
    if (late > 0 && !confirmLate) {
      throw new Error(
        `${late} of them were discarded from a sequence that has gone on, and would take effect behind their successors. Look at them, and confirm (confirmLate, --yes) if that does no harm`,
      );
    }
    const redriven = await this.inBatches(filter, before, true, async (tx, found) => {
      const candidates = await restore(tx, found);
      const stored = await redriveStored(tx, candidates);
      await acquitSuspects(tx, candidates);
      await this.outbox.add(
        tx,
        stored.flatMap(({ kind, consumer, message, redrives }) =>
          kind === 'command' && message
            ? [{ channel: 'command' as const, exchange: '', address: consumer, message: { ...message, redrives } }]
            : [],
        ),
      );
      await this.tellRedriven(tx, stored);
      await this.outbox.addAgain(
        tx,
        stored.filter(({ kind }) => kind === 'outgoing'),
      );
      return stored.length + (await redriveParked(tx, candidates));
    });
    return { redriven, skipped: unfit };
  }

  /**
   * Gives them up: kept in `inbox_discarded` with the reason. Whoever waits for the reply of a command is told that it failed;
   * the successors of a sequenced event go on.
   * @throws Error when an id is unknown, or without a reason
   */
  async discard(selection: Selection, why: string): Promise<Discard> {
    if (why.trim() === '') throw new Error('say why they are discarded: it is kept with them');
    const reason = storableText(why);
    const filter = filterOf(selection);
    const before = await this.now();
    await this.refuseUnknown(filter);
    const discarded = await this.inBatches(filter, before, false, async (tx, candidates) => {
      const removed = await removeStored(tx, candidates);
      for (const ofConsumer of Map.groupBy(removed, (row) => `${row.kind} ${row.consumer}`).values()) {
        const { consumer, kind } = ofConsumer[0] as Stored;
        const entries = ofConsumer.map((row) => this.keptOf(row, reason));
        await recordDiscarded(tx, consumer, kind, entries);
      }
      // A copy that is still under way must not take effect after the sender has been told that it failed.
      await admitOnce(
        tx,
        removed.map(({ consumer, id }) => ({ consumer, messageId: id })),
      );
      await this.answer(tx, removed, reason);
      return removed.length + (await this.passOver(tx, candidates, reason));
    });
    return { discarded };
  }

  private async tellRedriven(tx: Transaction, stored: readonly Stored[]): Promise<void> {
    const since = new Date().toISOString();
    const commands = stored.flatMap(({ kind, message }) =>
      kind === 'command' && message ? [{ message, reason: 'given to its handler again by an operator', since }] : [],
    );
    await this.outbox.add(tx, heldReplies(commands, 'redriven', this.options.service));
  }

  private async answer(tx: Transaction, removed: readonly Stored[], reason: string): Promise<void> {
    const answer = { failure: `discarded by an operator: ${reason}`, hopeless: 'discarded' } as const;
    const replies = removed.flatMap(({ kind, message }) => {
      const reply = kind !== 'event' && message ? replyEntry(message, answer, this.options.service) : undefined;
      return reply ?? [];
    });
    await this.outbox.add(tx, replies);
  }

  /** As the consumer itself discards what does not fit: under the locks of the keys, which then go on. */
  private async passOver(tx: Transaction, candidates: readonly Candidate[], reason: string): Promise<number> {
    let passed = 0;
    const sequenced = candidates.filter(({ kind }) => kind === 'sequenced-event');
    for (const [consumer, ofConsumer] of Map.groupBy(sequenced, (row) => row.consumer)) {
      const events = ofConsumer.map(({ message, attempts }): OrderedEvent => ({
        ...discardable(message as SequencedMessage, (whole) => this.redact(whole)),
        attempt: attempts + 1,
        data: undefined,
        fromParking: true,
        handler: undefined,
        refusal: discard(reason),
        settle: () => undefined,
      }));
      const { fates } = await handleBatch(tx, consumer, events);
      for (const fate of fates.values()) if (fate === 'discarded') passed += 1;
    }
    return passed;
  }

  private keptOf(row: Stored, reason: string): Discarded {
    const kept = keptOf(messageOf(row), reason, (message) => this.redact(message));
    return row.message && row.kind !== 'outgoing' ? kept : { ...kept, redrivable: false };
  }

  private redact(message: Message): Message {
    return this.options.redact?.(message) ?? message;
  }

  /** One transaction after the other, each with what fits and had failed before the first. */
  private async inBatches(
    filter: DeadLetterFilter,
    before: Date,
    onlyRedrivable: boolean,
    work: (tx: Transaction, candidates: readonly Candidate[]) => Promise<number>,
  ): Promise<number> {
    const { dataSource } = this.options;
    let changed = 0;
    for (;;) {
      const done = await inTransaction(dataSource, async (tx) => {
        // Two operators take turns: whoever comes second finds what the first has left.
        await tx.query(lockOperators);
        const candidates = await selectCandidates(tx, filter, { before, onlyRedrivable, limit: batchSize });
        return { found: candidates.length, changed: candidates.length > 0 ? await work(tx, candidates) : 0 };
      });
      changed += done.changed;
      if (done.found < batchSize || done.changed === 0) return changed;
    }
  }

  private async refuseUnknown({ ids, ...filter }: DeadLetterFilter): Promise<void> {
    if (!ids) return;
    const { where, values } = conditionsOf({ ...filter, ids });
    const found = await this.options.dataSource.query<{ id: string }[]>(`SELECT id FROM dead_letters ${where}`, values);
    const known = new Set(found.map(({ id }) => id));
    const unknown = ids.filter((id) => !known.has(id));
    if (unknown.length === 0) return;
    throw new Error(
      `there is no open dead letter ${unknown.slice(0, 5).join(', ')} in the database of ${this.options.service}; list them, or look for it in another service`,
    );
  }

  /** `old`: the inbox may have forgotten them. The order of sequenced events is remembered for ever. */
  private async count(filter: DeadLetterFilter): Promise<{ unfit: number; old: number; late: number }> {
    const { dataSource, dedupeRetentionMs = defaultInboxRetentionMs } = this.options;
    const { where, values } = conditionsOf(filter);
    const old = `redrivable AND kind IN ('command', 'event') AND first_failed_at < clock_timestamp() - $${values.length + 1} * interval '1 millisecond'`;
    const late = `redrivable AND kind = 'sequenced-event' AND status = 'discarded'`;
    const [counts] = await dataSource.query<{ unfit: number; old: number; late: number }[]>(
      `SELECT count(*) FILTER (WHERE NOT redrivable)::int AS unfit, count(*) FILTER (WHERE ${old})::int AS old,
              count(*) FILTER (WHERE ${late})::int AS late
         FROM dead_letters ${where}`,
      [...values, dedupeRetentionMs],
    );
    return counts ?? { unfit: 0, old: 0, late: 0 };
  }

  private async now(): Promise<Date> {
    const [row] = await this.options.dataSource.query<{ now: Date }[]>(
      // A millisecond later: an instant of JavaScript has no microseconds.
      `SELECT clock_timestamp() + interval '1 millisecond' AS now`,
    );
    return row?.now ?? new Date();
  }
}

/** What was discarded is a dead letter again, as any other. */
async function restore(tx: Transaction, candidates: readonly Candidate[]): Promise<Candidate[]> {
  await restoreDiscarded(
    tx,
    candidates.filter(({ status }) => status === 'discarded'),
  );
  return candidates.map((one) =>
    one.status === 'discarded' && one.kind === 'sequenced-event' ? { ...one, kind: 'event' } : one,
  );
}

function filterOf(selection: RedriveSelection): DeadLetterFilter {
  if (selection === 'all') return {};
  if (Object.values(selection).some((value) => value !== undefined)) return selection;
  throw new Error(`the filter is empty; say which dead letters are meant, or 'all'`);
}

/** What is no message is recorded as one that holds the bytes. */
function messageOf({ id, message, raw, headers }: Stored): Message {
  if (message) return message;
  const data = { base64: raw?.toString('base64') ?? null, headers };
  return createMessage({ id, type: 'undecodable', version: 1, source: 'unknown', data });
}
