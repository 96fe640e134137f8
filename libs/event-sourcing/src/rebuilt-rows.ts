import { silentLogger, type Transaction } from '@starter/messaging';
import type { DataSource } from 'typeorm';
import type { RecordedEvent } from './actor.js';
import type { StoredEvent } from './event-store.js';
import { decodeStored, loadActors } from './load-actors.js';
import type { MovedStream, MovedStreams } from './moved-streams.js';
import { mustNotRefuse, projectAll, type Projection, type StateChange } from './projection.js';
import type { ShadowTables } from './shadow-tables.js';
import { Snapshots } from './snapshots.js';

/** What is written of a page: rows, and how much of each stream they contain. */
export class RebuiltRows {
  /** That are in the new tables. */
  events = 0;

  constructor(
    private readonly projection: Projection,
    private readonly dataSource: DataSource,
    private readonly shadow: ShadowTables,
    private readonly moved: MovedStreams,
    private readonly onProgress: (events: number) => void,
  ) {}

  /** @throws Error when the projection does not know a type, refuses an event or writes a table that it does not declare */
  async ofEvents(tx: Transaction, page: readonly StoredEvent[]): Promise<void> {
    const { projection } = this;
    const streams = Map.groupBy(page, ({ stream }) => stream);
    const histories = [...streams.values()].map((events) => events.flatMap((event) => recorded(projection, event)));
    mustNotRefuse(projection, await projectAll(tx, [projection], histories));
    const heads = [...streams.values()].map((events) => events.at(-1)?.sequence);
    await this.written(tx, { streams: [...streams.keys()], heads, events: page.length });
  }

  /** What the actors of these streams are now; those of other actors pass. */
  async ofStates(tx: Transaction, streams: readonly MovedStream[]): Promise<void> {
    const { projection, dataSource } = this;
    const states = projection.states;
    if (!states) return;
    const own = streams.filter(({ stream }) => stream.startsWith(`${states.actor.name}-`));
    const actors = new Map(own.map(({ stream }) => [stream, states.actor]));
    const loaded = await loadActors(tx, actors, () => undefined, new Snapshots(dataSource, silentLogger));
    const changes = [...loaded].map(([stream, { state }]) => ({ stream, state }));
    if (changes.length > 0) await states.write(tx, changes as StateChange<never>[]);
    const heads = streams.map(({ stream, head }) => loaded.get(stream)?.sequence ?? head);
    const events = streams.reduce((sum, { sequence }, index) => sum + (heads[index] as number) - sequence, 0);
    await this.written(tx, { streams: streams.map(({ stream }) => stream), heads, events });
  }

  private async written(
    tx: Transaction,
    { streams, heads, events }: { streams: readonly string[]; heads: readonly unknown[]; events: number },
  ): Promise<void> {
    await this.moved.advance(tx, streams, heads);
    await this.shadow.refuseOtherWrites(tx.manager);
    this.events += events;
    this.onProgress(this.events);
  }
}

/** @throws Error when the projection does not know the type: what it is told too little of would be wrong from there on */
function recorded({ name, handlers }: Projection, event: StoredEvent): RecordedEvent[] {
  const { type, stream, sequence, time } = event;
  const handler = handlers.get(type);
  if (handler?.ignored) return [];
  if (handler) return [{ type, sequence, time, data: decodeStored(handler.definition, event) }];
  const what = `projection ${name} does not say what it does with ${type} (${stream}, sequence ${sequence})`;
  throw new Error(`${what}; add project(…) or ignore(…) for it`);
}
