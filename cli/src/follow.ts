import { eventLines, lastEventLines, type EventFilter, type LoggedEvent } from '@starter/event-sourcing';
import { setTimeout as delay } from 'node:timers/promises';
import type { DataSource } from 'typeorm';

/** How far the clocks of services may be apart from that of the database, plus the longest transaction of theirs. */
const overlapMs = 10_000;
const pollMs = 500;

/**
 * The last events, and then each new one, about half a second after its commit. The log has no order over streams that would
 * tell what is new, so each look goes back some seconds and passes over what was seen: an event that is committed more than
 * ten seconds after its time is missed.
 */
export async function* follow(
  dataSource: DataSource,
  limit: number,
  filter: Pick<EventFilter, 'stream' | 'type'>,
): AsyncGenerator<string> {
  let since = await now(dataSource);
  /** Times by event id. */
  const seen = new Map<string, number>();
  const isNew = (line: string): boolean => {
    const { id, recorded_at } = JSON.parse(line) as LoggedEvent;
    return !seen.has(id) && Boolean(seen.set(id, Date.parse(recorded_at)));
  };
  // More of them than are shown: the others are not new.
  for await (const line of eventLines(dataSource, { ...filter, since })) isNew(line);
  const last = await lastEventLines(dataSource, limit, filter);
  last.forEach(isNew);
  yield* last;
  for (;;) {
    const looked = await now(dataSource);
    for await (const line of eventLines(dataSource, { ...filter, since }, { chronological: true })) {
      if (isNew(line)) yield line;
    }
    since = looked;
    for (const [id, time] of seen) if (time < since.getTime()) seen.delete(id);
    await delay(pollMs);
  }
}

/** The clock of the database, less the overlap. */
async function now(dataSource: DataSource): Promise<Date> {
  const [row] = await dataSource.query<{ now: Date }[]>('SELECT clock_timestamp() AS now');
  return new Date((row?.now.getTime() ?? Date.now()) - overlapMs);
}
