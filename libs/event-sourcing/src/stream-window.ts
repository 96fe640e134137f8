import type { Statement, Transaction } from '@starter/messaging';
import type { StoredEvent, StreamPosition } from './event-store.js';
import { refuseGap } from './load-actors.js';

const select: Statement = {
  name: 'stream-window-page',
  text: `SELECT event.* FROM unnest($1::text[], $2::bigint[]) AS wanted (stream_id, after_sequence)
          CROSS JOIN LATERAL (
            SELECT stream_id AS stream, type, version, sequence::int AS sequence, id, data, recorded_at AS time
              FROM event WHERE event.stream_id = wanted.stream_id AND sequence > after_sequence
             ORDER BY event.sequence LIMIT $3) event`,
};

/** The next streams to read, each from its position on; fewer than `limit` = there are no more. */
export type NextStreams = (tx: Transaction, limit: number) => Promise<readonly StreamPosition[]>;

/** How many events of each stream are read at once, unless there are too few streams left. */
const eventsOfEach = 5;

/**
 * Reads many streams side by side, a few events of each at a time: so what comes together is of many streams, and can be
 * handled with few statements. Stream after stream it would be the longer the streams, the more statements.
 */
export class StreamWindow {
  private readonly open = new Map<string, number>();
  private exhausted = false;

  constructor(
    private readonly nextStreams: NextStreams,
    private readonly pageSize: number,
  ) {}

  /**
   * About `pageSize` events, per stream in order; none at the end.
   * @throws CorruptStreamError when a stream has a gap
   */
  async next(tx: Transaction): Promise<StoredEvent[]> {
    for (;;) {
      await this.fill(tx);
      if (this.open.size === 0) return [];
      const page = await this.read(tx);
      // Nothing where all that were open had been read to their ends just before: there may be more of them.
      if (page.length > 0) return page;
    }
  }

  private async read(tx: Transaction): Promise<StoredEvent[]> {
    const most = Math.ceil(this.pageSize / this.open.size);
    const positions = [[...this.open.keys()], [...this.open.values()], most];
    const page = await tx.query<StoredEvent & Record<string, unknown>>(select, positions);
    const read = new Map<string, number>();
    for (const event of page) {
      const { stream, sequence } = event;
      refuseGap(event, this.open.get(stream) ?? 0);
      this.open.set(stream, sequence);
      read.set(stream, (read.get(stream) ?? 0) + 1);
    }
    for (const stream of [...this.open.keys()]) if ((read.get(stream) ?? 0) < most) this.open.delete(stream);
    return page;
  }

  private async fill(tx: Transaction): Promise<void> {
    const limit = Math.ceil(this.pageSize / eventsOfEach) - this.open.size;
    if (this.exhausted || limit <= 0) return;
    const streams = await this.nextStreams(tx, limit);
    for (const { stream, sequence } of streams) this.open.set(stream, sequence);
    this.exhausted = streams.length < limit;
  }
}
