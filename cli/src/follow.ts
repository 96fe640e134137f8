import { eventLines, lastEventLines, snapshotOfLog, type EventFilter } from '@starter/event-sourcing';
import { setTimeout as delay } from 'node:timers/promises';
import type { DataSource } from 'typeorm';

const pollMs = 500;
/** What is older and comes anew was brought back from an archive. */
const oldMs = 86_400_000;

/** The last events, and then each new one, about half a second after its commit: each look has what the one before did not see. */
export async function* follow(
  dataSource: DataSource,
  limit: number,
  filter: Pick<EventFilter, 'stream' | 'type'>,
): AsyncGenerator<string> {
  let seen = await snapshotOfLog(dataSource);
  yield* await lastEventLines(dataSource, limit, { ...filter, seenBy: seen });
  for (;;) {
    await delay(pollMs);
    const now = await snapshotOfLog(dataSource);
    const since = new Date(Date.now() - oldMs);
    yield* eventLines(dataSource, { ...filter, since, seenBy: now, unseenBy: seen }, { chronological: true });
    seen = now;
  }
}
