import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { Batches } from '../batches.js';
import { SuspectList } from '../inbox/suspect-list.js';
import { errorText } from '../logger.js';
import type { Message } from '../message.js';
import { retryBlameless, type Outcome } from '../outcome.js';
import type { Delivery, DeliveryHandler } from '../transport/delivery.js';
import { HandlerSlots } from '../transport/handler-slots.js';
import { outageRetryMs, report, type TriageContext } from './triage.js';
import type { Turns } from './turns.js';

/** A dead letter of this type has killed its process whenever it was handled. */
export const crashedItsProcess = 'CrashedItsProcess';

/** So often a message is begun before it is condemned, in company and then in turns of its own; and once before that. */
const mostStarts = 5;

/** So many are handled together that have been in hand at one death, so that few have to take turns after the next. */
const mostOfSmallCompany = 10;

/** Of a message that has begun so often and come to no end; nothing where it may begin once more. */
export function condemned({ type }: Message, starts: number): DeadLetterOutcome | undefined {
  if (starts < mostStarts) return undefined;
  const died = `its process has died at least ${mostStarts} times while it was handled`;
  const reason = `${died}; mend the handler of ${type} before it is sent again`;
  return { kind: 'dead-letter', reason, errorType: crashedItsProcess };
}

type DeadLetterOutcome = Extract<Outcome, { kind: 'dead-letter' }>;

export interface SuspectsOptions extends TriageContext {
  readonly dataSource: DataSource;
  /** Shared by all consumers of a process: what one of them does may be what it dies of. */
  readonly turns: Turns;
  /** So many suspects are handled together at first. Default 10. */
  readonly mostTogether?: number;
  /** Where nobody may have been killed there are no suspects. Default: somebody may. */
  readonly mayHaveDied?: () => Promise<boolean>;
  /**
   * Who has been in hand at a death lets others go first for so long, and for twice as long after the next: they make headway
   * even if it kills the process again, and it is less likely to be in hand when somebody else does. Default 250 ms.
   */
  readonly standBackMs?: number;
}

/**
 * Finds the message whose handler kills its process, among the innocent ones that were in hand with it. What the broker delivers
 * again is a suspect: its start is recorded, and it is handled in company, then in small company. Who was in hand at each death
 * so far waits for a turn of its own, in which no other of its kind runs: if the process dies then, it was this one. After six
 * deaths it is a dead letter. Innocent ones end, and their rows go. What is delivered for the first time costs nothing.
 *
 * One bound: a handler that takes longer than its turn is not the only one of its kind any more.
 */
export class Suspects {
  private readonly list: SuspectList;
  private readonly marking: Batches<string, number>;
  private readonly clearing: Batches<string, undefined>;
  private readonly inHand = new Set<string>();
  private readonly company: HandlerSlots;
  private readonly smallCompany = slots(mostOfSmallCompany);

  constructor(private readonly options: SuspectsOptions) {
    const { dataSource, consumer, mostTogether = 10 } = options;
    this.list = new SuspectList(dataSource, consumer);
    this.company = slots(mostTogether);
    this.marking = new Batches(async (ids) => {
      const known = await this.list.mark(ids);
      return ids.map((id) => known.get(id) ?? 0);
    });
    this.clearing = new Batches(async (ids) => {
      await this.list.clear(ids);
      return ids.map(() => undefined);
    });
  }

  /** The handler, kept apart from its like where it may be to blame. */
  guard(handler: DeliveryHandler): DeliveryHandler {
    return (delivery) => {
      const { message, redelivered } = delivery;
      // A connection that was lost kills nobody: what is still at work here is no suspect.
      return redelivered && !this.inHand.has(message.id) ? this.examine(delivery, handler) : handler(delivery);
    };
  }

  /** What is cut off by the end of the service has killed nobody. */
  async release(): Promise<void> {
    await Promise.all([...this.inHand].map((id) => this.clear(id)));
  }

  private async examine(delivery: Delivery, handler: DeliveryHandler): Promise<Outcome> {
    const { id } = delivery.message;
    const { mayHaveDied, turns, standBackMs = 250 } = this.options;
    this.inHand.add(id);
    try {
      if (mayHaveDied && !(await mayHaveDied())) return await handler(delivery);
      const starts = await this.within(this.company, async () => {
        const before = await this.marking.call(id);
        return before || this.handle(delivery, handler);
      });
      if (typeof starts !== 'number') return starts;
      const verdict = this.judge(delivery.message, starts);
      if (verdict) return verdict;
      await sleep(standBackMs * 2 ** (starts - 1), undefined, { ref: false });
      const once = () => this.handleOnceMore(delivery, handler, starts);
      return await (starts === 1 ? this.within(this.smallCompany, once) : turns.take(once));
    } catch (error) {
      // Whatever has failed: a handler of deliveries comes to an outcome, and the handler of the message has none to blame.
      return retryBlameless(outageRetryMs, `its start could not be recorded: ${errorText(error)}`);
    } finally {
      this.inHand.delete(id);
    }
  }

  /** Others do not wait for longer than a turn lasts. */
  private async within<T>(company: HandlerSlots, work: () => Promise<T>): Promise<T> {
    await company.take();
    let inside = true;
    const leave = (): void => {
      if (inside) company.release();
      inside = false;
      clearTimeout(timer);
    };
    const timer = setTimeout(leave, this.options.turns.mostMs).unref();
    return work().finally(leave);
  }

  private judge(message: Message, starts: number): Outcome | undefined {
    const verdict = condemned(message, starts);
    // It stays listed: the process may die before the dead letter is kept, and the count must not start again.
    if (verdict) report(message, verdict, this.options);
    return verdict;
  }

  private async handleOnceMore(delivery: Delivery, handler: DeliveryHandler, starts: number): Promise<Outcome> {
    const { consumer, logger } = this.options;
    const { id, type } = delivery.message;
    await this.list.count(id);
    logger.warn('a message was in hand when its process died; it is handled in small company, then alone', {
      ...{ consumer, id, type },
      starts: starts + 1,
    });
    return this.handle(delivery, handler);
  }

  private async handle(delivery: Delivery, handler: DeliveryHandler): Promise<Outcome> {
    try {
      return await handler(delivery);
    } finally {
      await this.clear(delivery.message.id);
    }
  }

  private async clear(id: string): Promise<void> {
    try {
      await this.clearing.call(id);
    } catch (error) {
      // It is cleared with the next one, or deleted when it is old; until then another process lets it take turns.
      const { consumer, logger } = this.options;
      logger.warn('a message that ended is still listed as suspect', { consumer, id, error: errorText(error) });
    }
  }
}

const slots = (most: number): HandlerSlots =>
  new HandlerSlots(
    () => most,
    () => undefined,
  );
