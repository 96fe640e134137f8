import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import { Client } from 'pg';
import { deposits, expectTotals, streamOf, totalsOf, type DepositData, type Total } from '../account.js';
import type { Benchmark, Setting } from '../benchmark.js';
import type { Trial, Variant } from '../rounds.js';
import { openEmmett } from './emmett.js';
import { writers, type EventStore } from './event-store.js';
import { openOurs } from './ours.js';
import { openRaw } from './raw.js';

interface StoreVariant {
  readonly name: string;
  readonly open: (url: string) => Promise<EventStore>;
  /** Yields {@link Total} by stream. */
  readonly totals: string;
}

const eventTotals = `SELECT stream_id AS stream, count(*)::int, max(sequence)::int AS last,
                            sum((data->>'amount')::int)::int AS amount
                       FROM event GROUP BY 1`;
const emmettTotals = `SELECT stream_id AS stream, count(*)::int, max(stream_position)::int AS last,
                             sum((message_data->>'amount')::int)::int AS amount
                        FROM emt_messages GROUP BY 1`;

const ours: StoreVariant = { name: 'ours', open: openOurs, totals: eventTotals };
const raw: StoreVariant = { name: 'raw insert', open: openRaw, totals: eventTotals };
const emmett: StoreVariant = { name: 'Emmett', open: openEmmett, totals: emmettTotals };

export const append: Benchmark = async (setting) => {
  const one = { events: 1, transactions: setting.quick ? 5 : 200 };
  const hundred = { events: 100, transactions: setting.quick ? 2 : 20 };
  return {
    comparisons: [
      {
        title: `append of 1 event per transaction, ${writers} writers`,
        unit: 'events/s',
        variants: [ours, raw, emmett].map((store) => variantOf(store, one, setting)),
        targets: [
          { of: ours.name, against: raw.name, atLeast: 0.8 },
          { of: ours.name, against: emmett.name, atLeast: 1.2 },
        ],
      },
      {
        title: `append of 100 events per transaction, ${writers} writers`,
        unit: 'events/s',
        variants: [ours, raw].map((store) => variantOf(store, hundred, setting)),
        targets: [{ of: ours.name, against: raw.name, atLeast: 0.75 }],
      },
    ],
    close: async () => undefined,
  };
};

interface Load {
  /** Per transaction. */
  readonly events: number;
  /** Per writer. */
  readonly transactions: number;
}

function variantOf({ name, open, totals }: StoreVariant, load: Load, { servers, seed }: Setting): Variant {
  return {
    name,
    async prepare(): Promise<Trial> {
      const database = await servers.createDatabase([CreateEventStore1760000000002]);
      const store = await open(database.url);
      const work = Array.from({ length: writers }, (_, writer) =>
        deposits(load.events * load.transactions, 1, seed + writer).map(({ amount }) => ({
          accountId: String(writer),
          amount,
        })),
      );
      return {
        operations: writers * load.transactions * load.events,
        run: async () => void (await Promise.all(work.map((events) => write(store, events, load.events)))),
        verify: async () => expectTotals(await read(database.url, totals), work.flatMap(totalsOf)),
        close: async () => {
          await store.close();
          await database.drop();
        },
      };
    },
  };
}

/** One writer: its events one transaction after the other. */
async function write(store: EventStore, events: readonly DepositData[], perTransaction: number): Promise<void> {
  for (let after = 0; after < events.length; after += perTransaction) {
    const next = events.slice(after, after + perTransaction);
    await store.append(streamOf(next[0]?.accountId ?? ''), after, next);
  }
}

async function read(url: string, totals: string): Promise<Total[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<Total>(totals);
  await client.end();
  return rows;
}
