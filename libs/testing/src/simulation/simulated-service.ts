import {
  CommandConsumer,
  CommandFailed,
  CommandSucceeded,
  ConsumerMonitor,
  createMessage,
  causedBy,
  doneAs,
  EventReactor,
  inTransaction,
  OrderedEvents,
  Outbox,
  OutboxRelay,
  replyFor,
  silentLogger,
  TransientError,
  type admitOnce,
  type CommandTransport,
  type EventTransport,
  type Message,
  type Outcome,
  type OutboxEntry,
  type Received,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import { z } from 'zod';
import type { SimulatedProcess } from './simulated-process.js';

const key = z.string();
const command = { kind: 'command', version: 1, owner: 'sim' } as const;
/** Appends the next event to the stream of its key, and answers. */
export const Place = { ...command, type: 'sim.place', schema: z.object({ key, amount: z.int().min(0) }) };
const Placed = { ...command, kind: 'event', type: 'sim.placed', schema: z.object({ amount: z.int() }) } as const;
/** Sent for each event by the ordered consumer. */
const Note = { ...command, type: 'sim.note', schema: z.object({ key, sequence: z.int() }) };

export const service = 'sim';
export const queue = `${service}.commands`;
export const topic = `${service}.events`;
export const replies = `${service}.replies`;
export const ordered = `${service}.ordered`;
export const reactor = `${service}.reactor`;

/** What the simulated service is made of; a planted bug is another one of these. */
export interface Parts {
  readonly admit: typeof admitOnce;
  readonly commands: (transport: CommandTransport) => CommandTransport;
  readonly events: (transport: EventTransport) => EventTransport;
}

export type Handler = 'place' | 'note' | 'reply' | 'ordered' | 'reactor';

// The order of the ids is the order of the effects of a key: whoever writes one holds the lock of the key.
export const createTables = `
  CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY, handler text, message text, key text, sequence int);
  CREATE TABLE stream (key text PRIMARY KEY, sequence int NOT NULL);`;
const insertEffects: Statement = {
  name: 'sim-effect',
  text: `INSERT INTO effect (handler, message, key, sequence)
         SELECT $1, * FROM unnest($2::text[], $3::text[], $4::int[])`,
};
const nextSequence: Statement = {
  name: 'sim-next',
  text: `INSERT INTO stream VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET sequence = stream.sequence + 1 RETURNING sequence`,
};

/** A small service as one process of it runs it: the parts of the library under test, and handlers whose effects are rows. */
export class SimulatedService {
  readonly outbox = new Outbox();
  private readonly relay: OutboxRelay;
  private readonly commands: CommandConsumer;
  private readonly consumers: readonly (OrderedEvents | EventReactor)[];
  private started: Promise<void> | undefined;

  constructor(
    readonly process: SimulatedProcess,
    private readonly parts: Parts,
  ) {
    const { dataSource, world } = process;
    const events = parts.events(process.events);
    const commands = parts.commands(process.commands);
    const failurePolicy = { maxRetries: 3, backoff: { baseMs: 5 } };
    const base = { dataSource, logger: silentLogger, failurePolicy };
    this.relay = new OutboxRelay({
      ...base,
      commands,
      events,
      outbox: this.outbox,
      pollMs: 100,
      leaseMs: world.leaseMs,
      handOver: world.handOver,
    });
    this.commands = new CommandConsumer({
      ...base,
      ...{ service, outbox: this.outbox, transport: commands, monitor: new ConsumerMonitor() },
    });
    const eventsOf = (consumer: string) => ({
      ...base,
      ...{ topic, consumer, transport: events, monitor: new ConsumerMonitor() },
    });
    this.consumers = [
      this.register(new OrderedEvents({ ...eventsOf(ordered), sweepMs: 100, gapDeadlineMs: 400, maxBatch: 20 })),
      new EventReactor(eventsOf(reactor)).on(Placed, (received) =>
        this.once('reactor', received, eventName(received.message)),
      ),
    ];
    this.commands.handle(Place, (received) => this.place(received));
    this.commands.handle(Note, (received) => this.once('note', received, received.message.id));
    const hear = (received: Received<{ requestId: string }>) => this.once('reply', received, received.data.requestId);
    this.commands.handle(CommandSucceeded, hear, { routingKey: replies });
    this.commands.handle(CommandFailed, hear, { routingKey: replies });
  }

  /** Resolves also when it crashes meanwhile. */
  start(): Promise<void> {
    this.started = this.begin().catch((error: unknown) => {
      if (!this.process.over) throw error;
    });
    return this.started;
  }

  private async begin(): Promise<void> {
    await this.process.dataSource.initialize();
    await Promise.all([this.commands.declare(), this.process.events.declare([{ name: topic, partitions: 3 }])]);
    await this.relay.join();
    this.relay.start();
    await Promise.all([this.commands, ...this.consumers].map((consumer) => consumer.start()));
  }

  /** Also for one that has crashed: what its code still does must have ended before the run does. */
  async stop(): Promise<void> {
    await this.started;
    const drainMs = this.process.over ? 0 : 500;
    await Promise.all([this.commands, ...this.consumers].map((consumer) => consumer.stop(drainMs)));
    await this.relay.stop();
    await this.process.close();
  }

  private register(events: OrderedEvents): OrderedEvents {
    const { faults } = this.process.world;
    return events.on(
      Placed,
      async (received, tx) => {
        const messages = received.map(({ message }) => message);
        await this.effect(tx, 'ordered', messages.map(eventName), messages);
        await this.outbox.add(tx, messages.map(noteOf));
        received.forEach(({ message, attempt }) => this.fail('ordered', message, attempt));
        await this.process.beforeCommit(tx, 'ordered', messages);
      },
      { manyPerKey: faults.chance(0.5, 'many per key') },
    );
  }

  private place(received: Received<z.output<(typeof Place)['schema']>>): Promise<Outcome> {
    const { data, message } = received;
    return this.once('place', received, message.id, async (tx) => {
      const [row] = await tx.query<{ sequence: number }>(nextSequence, [data.key]);
      const { amount } = data;
      const fields = { type: Placed.type, version: 1, source: service, subject: data.key, ...causedBy(message) };
      const event = createMessage({ ...fields, sequence: row?.sequence, data: { amount } });
      const reply = replyFor(message, { result: null }, service);
      return [
        { channel: 'event', address: topic, message: event },
        ...(reply ? [{ channel: 'command', address: replies, message: reply } as const] : []),
      ];
    });
  }

  /** The effect named `effect`, and what `work` writes to the outbox: once, whatever is delivered twice. */
  private once(
    handler: Handler,
    { message, attempt, fence }: Received,
    effect: string,
    work: (tx: Transaction) => Promise<OutboxEntry[]> = async () => [],
  ): Promise<Outcome> {
    const consumer = handler === 'reactor' ? reactor : queue;
    const inOne = async (tx: Transaction): Promise<Outcome> => {
      const [fresh] = await this.parts.admit(tx, [{ consumer, messageId: message.id }]);
      if (!fresh) return doneAs.duplicates;
      await this.effect(tx, handler, [effect], [message]);
      await this.outbox.add(tx, await work(tx));
      this.fail(handler, message, attempt);
      await this.process.beforeCommit(tx, handler, [message]);
      return doneAs.handled;
    };
    return inTransaction(this.process.dataSource, inOne, fence);
  }

  private async effect(tx: Transaction, handler: Handler, names: string[], messages: readonly Message[]) {
    const keys = messages.map(({ subject }) => subject);
    await tx.query(insertEffects, [handler, names, keys, messages.map(({ sequence }) => sequence)]);
  }

  private fail(handler: Handler, message: Message, attempt: number): void {
    const { faults } = this.process.world;
    if (!faults.failsAt(handler, message, attempt)) return;
    throw new TransientError('the simulation lets the handler fail');
  }
}

const eventName = ({ subject, sequence }: Message): string => `${subject}#${sequence}`;

/** Its id follows from the event's: in a replay it meets the same faults. */
function noteOf(event: Message): OutboxEntry {
  const { subject = '', sequence = 0 } = event;
  const id = `note ${eventName(event)}`;
  const fields = { id, type: Note.type, version: 1, source: service, subject, ...causedBy(event) };
  return {
    channel: 'command',
    address: Note.type,
    message: createMessage({ ...fields, data: { key: subject, sequence } }),
  };
}
