import type { DataSource } from 'typeorm';
import { Coalesced } from '../coalesced.js';
import { runStatement, type Statement } from '../database/transaction.js';
import { failpoint } from '../failpoint.js';
import { errorText } from '../logger.js';
import { deadLetter, retryBlameless, type Outcome } from '../outcome.js';
import type { Delivery, DeliveryHandler } from '../transport/delivery.js';
import { HandlerSlots } from '../transport/handler-slots.js';
import { Solitude } from './solitude.js';
import { outageRetryMs, report, type TriageContext } from './triage.js';

const mark: Statement = {
  name: 'suspect-mark',
  text: `INSERT INTO inbox_suspect (consumer, message_id) SELECT $1, id FROM unnest($2::text[]) AS id ORDER BY id
         ON CONFLICT DO NOTHING RETURNING message_id AS id`,
};
const countStart: Statement = {
  name: 'suspect-start',
  text: `INSERT INTO inbox_suspect (consumer, message_id) VALUES ($1, $2)
         ON CONFLICT (consumer, message_id) DO UPDATE SET starts = inbox_suspect.starts + 1 RETURNING starts`,
};
const clear: Statement = {
  name: 'suspect-clear',
  text: `DELETE FROM inbox_suspect WHERE consumer = $1 AND message_id = ANY($2)`,
};

/** Once in small company, and then alone; before those it was handled as any other. */
const mostStarts = 4;

/** So many suspects are handled together at first: if the process dies, no more of them have to be handled one by one. */
const mostTogether = 10;

const defaultAloneMs = 5_000;

/** A dead letter of this type has killed its process whenever it was handled. */
export const crashedItsProcess = 'CrashedItsProcess';

export interface SuspectsOptions extends TriageContext {
  readonly dataSource: DataSource;
  /** How long a suspect keeps others from beginning, and how long it waits for them to end, in milliseconds. Default 5 000. */
  readonly aloneMs?: number;
}

/**
 * Finds the message whose handler kills its process, among the innocent ones that were in hand with it. What the broker delivers
 * again is a suspect: its start is recorded, and it is handled in small company. Who was started like that and has come to no
 * end is handled alone: if the process dies then, it was this one. After five deaths it is a dead letter. Innocent ones end, and
 * their rows go. What is delivered for the first time costs nothing.
 *
 * Two bounds: a handler that runs for longer than `aloneMs` is not alone any more, and the handlers of events are not looked at.
 */
export class Suspects {
  private readonly solitude: Solitude;
  private readonly marking: Coalesced<string, boolean>;
  private readonly clearing: Coalesced<string, undefined>;
  private readonly inHand = new Set<string>();
  private readonly company = new HandlerSlots(
    () => mostTogether,
    () => undefined,
  );

  constructor(private readonly options: SuspectsOptions) {
    const { dataSource, consumer, aloneMs = defaultAloneMs } = options;
    this.solitude = new Solitude(aloneMs);
    this.marking = new Coalesced(async (ids) => {
      const rows = await runStatement<{ id: string }>(dataSource, mark, [consumer, ids]);
      const marked = new Set(rows.map(({ id }) => id));
      return ids.map((id) => marked.has(id));
    });
    this.clearing = new Coalesced(async (ids) => {
      await runStatement(dataSource, clear, [consumer, ids]);
      return ids.map(() => undefined);
    });
  }

  /** The handler, kept apart from others where it may be to blame. */
  guard(handle: DeliveryHandler): DeliveryHandler {
    const begin = (delivery: Delivery): Promise<Outcome> => {
      failpoint('command.handling', delivery.message.id);
      return handle(delivery);
    };
    return (delivery) => {
      const { message, redelivered } = delivery;
      // A connection that was lost kills nobody: what is still at work here is no suspect.
      if (redelivered && !this.inHand.has(message.id)) return this.examine(delivery, begin);
      return this.solitude.beside(async () => {
        // Somebody has mended what killed its process, and sends it again: nothing is held against it.
        if (message.redrives && !redelivered) await this.clear(message.id);
        return begin(delivery);
      });
    };
  }

  /** What is cut off by the end of the service has killed nobody. */
  async release(): Promise<void> {
    await Promise.all([...this.inHand].map((id) => this.clear(id)));
  }

  private async examine(delivery: Delivery, begin: DeliveryHandler): Promise<Outcome> {
    const { id } = delivery.message;
    this.inHand.add(id);
    await this.company.take();
    const leave = this.leaveInTime();
    try {
      if (await this.marking.call(id)) return await this.solitude.beside(() => this.handle(delivery, begin));
      leave();
      return await this.solitude.alone(() => this.examineAlone(delivery, begin));
    } catch (error) {
      // Whatever has failed: a handler of deliveries comes to an outcome, and the handler of the message has none to blame.
      return retryBlameless(outageRetryMs, `its start could not be recorded: ${errorText(error)}`);
    } finally {
      leave();
      this.inHand.delete(id);
    }
  }

  /** Others do not wait for longer than `aloneMs`. @returns lets the next one in, however often it is called */
  private leaveInTime(): () => void {
    let inside = true;
    const leave = (): void => {
      if (inside) this.company.release();
      inside = false;
      clearTimeout(timer);
    };
    const timer = setTimeout(leave, this.options.aloneMs ?? defaultAloneMs).unref();
    return leave;
  }

  private async examineAlone(delivery: Delivery, begin: DeliveryHandler): Promise<Outcome> {
    const { dataSource, consumer, logger } = this.options;
    const { id, type } = delivery.message;
    const [row] = await runStatement<{ starts: number }>(dataSource, countStart, [consumer, id]);
    const starts = row?.starts ?? 1;
    if (starts <= mostStarts) {
      logger.warn('a message was in hand when its process died, and is handled alone', { consumer, id, type, starts });
      return this.handle(delivery, begin);
    }
    // It stays listed: the process may die before the broker has the dead letter, and the count must not start again.
    const outcome = deadLetter(
      `its process has died ${starts} times while it was handled; mend the handler of ${type} before it is sent again`,
      crashedItsProcess,
    );
    report(delivery.message, outcome, this.options);
    return outcome;
  }

  private async handle(delivery: Delivery, begin: DeliveryHandler): Promise<Outcome> {
    try {
      return await begin(delivery);
    } finally {
      await this.clear(delivery.message.id);
    }
  }

  private async clear(id: string): Promise<void> {
    try {
      await this.clearing.call(id);
    } catch (error) {
      // It is deleted when it is old; until then this message is handled alone if it is delivered again.
      const { consumer, logger } = this.options;
      logger.warn('a message that ended is still listed as suspect', { consumer, id, error: errorText(error) });
    }
  }
}
