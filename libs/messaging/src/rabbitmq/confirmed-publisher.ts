import { setTimeout as sleep } from 'node:timers/promises';
import { IllegalOperationError, type ConfirmChannel, type Message as AmqpReturn, type Options } from 'amqplib';
import { LinkedQueue } from '../linked-queue.js';
import type { AmqpMessage } from './amqp-envelope.js';
import { Destination, OpenPublications, Publication, PublicationQueue } from './publication.js';
import {
  blamesMessage,
  notConfirmed,
  refusedBy,
  unencodable,
  unroutable,
  type ChannelException,
} from './publication-errors.js';

export interface ConfirmedPublisherOptions {
  /** Most messages for one destination that the broker has not confirmed yet; the rest waits. In all, four times as many. */
  readonly confirmWindow: number;
  /** A message fails when it has waited so long, whatever becomes of others. */
  readonly sendTimeoutMs: number;
  /** Asks for another channel: this one keeps account of messages that the broker does not confirm. */
  readonly replaceChannel: () => void;
}

/** One life of the channel. */
interface Session {
  readonly channel: ConfirmChannel;
  /** Why the broker closed it, if that is because of a message. */
  exception: ChannelException | undefined;
  /** Whether the message that it is because of was the only one in the window. */
  alone: boolean;
  /** Messages that have passed their time, of which amqplib still keeps account. */
  abandoned: number;
  /** Messages written since the first of them: amqplib keeps account of them as well. */
  writtenSince: number;
}

/** Windows in the whole: so many destinations may stand still at the same time, and cost the others nothing. */
const windows = 4;
/** What amqplib may keep account of behind a message that is never confirmed. */
const longestAccount = 50_000;
const longestRetirementMs = 1_000;

/**
 * Publishes to each destination in the order of the calls. Each message has its own callback on the confirm channel, because
 * a wait for "all confirms" cannot tell which message was lost. Messages that were not written yet survive the loss of the
 * channel and go out on the next one; those that were written but not confirmed are rejected, since nobody knows. Except
 * where the broker closed the channel because of one of them: then they are sent again one by one, to learn which.
 */
export class ConfirmedPublisher {
  /** By exchange and routing key. */
  private readonly destinations = new Map<string, Map<string, Destination>>();
  private readonly sendable = new LinkedQueue<Destination>();
  private readonly suspects = new PublicationQueue();
  /** The suspect that is in the window, and nothing beside it. */
  private examined: Publication | undefined;
  private readonly open = new OpenPublications();
  private inFlight = 0;
  private session: Session | undefined;
  /** The socket's buffer is full. Belongs to the channel: `drain` never comes on one that dies. */
  private saturated = false;
  private retiringSince: number | undefined;
  /** The broker has raised an alarm (memory, disk) and reads nothing. */
  private blockedBy: string | undefined;
  private closed = false;
  private watchdog: NodeJS.Timeout | undefined;
  private readonly idle = new Set<() => void>();

  constructor(private readonly options: ConfirmedPublisherOptions) {}

  get ready(): boolean {
    return this.session !== undefined && this.blockedBy === undefined && !this.closed;
  }

  /**
   * @throws RefusedError when the message cannot be taken: UnroutableError when no queue is bound
   * @throws NotConfirmedError when it is unknown whether the broker has it
   */
  publish(exchange: string, routingKey: string, message: AmqpMessage): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.closed) {
        const addressed = { exchange, routingKey, message };
        return reject(notConfirmed(addressed, 'the transport is closed', 'open a new one'));
      }
      const destination = this.destination(exchange, routingKey);
      const publication = new Publication(exchange, routingKey, message, destination, resolve, reject);
      this.open.add(publication);
      destination.usedAt = publication.since;
      this.watchdog ??= setInterval(() => this.look(), Math.max(1, this.options.sendTimeoutMs / 10)).unref();
      destination.waiting.push(publication);
      this.list(destination);
      this.pump();
    });
  }

  attach(channel: ConfirmChannel): void {
    const session: Session = { channel, exception: undefined, alone: false, abandoned: 0, writtenSince: 0 };
    channel.on('drain', () => {
      if (session !== this.session) return;
      this.saturated = false;
      this.pump();
    });
    channel.on('return', (returned) => this.markReturned(returned));
    channel.on('error', (error: unknown) => {
      if (!blamesMessage(error)) return;
      session.exception = error;
      session.alone = this.inFlight === 1 && session.abandoned === 0;
    });
    this.session = session;
    this.saturated = false;
    this.retiringSince = undefined;
    this.blockedBy = undefined;
    this.pump();
  }

  detach(): void {
    this.session = undefined;
  }

  block(reason: string | undefined): void {
    this.blockedBy = reason;
    this.pump();
  }

  /** Fails what comes later and waits for what is on its way, but not longer than a send may take. */
  async close(): Promise<void> {
    this.closed = true;
    if (this.open.size > 0) {
      const idle = new Promise<void>((resolve) => this.idle.add(resolve));
      await Promise.race([idle, sleep(this.options.sendTimeoutMs, undefined, { ref: false })]);
    }
    clearInterval(this.watchdog);
  }

  private destination(exchange: string, routingKey: string): Destination {
    let ofExchange = this.destinations.get(exchange);
    if (!ofExchange) this.destinations.set(exchange, (ofExchange = new Map<string, Destination>()));
    let destination = ofExchange.get(routingKey);
    if (!destination) ofExchange.set(routingKey, (destination = new Destination()));
    return destination;
  }

  private list(destination: Destination): void {
    const { waiting, inFlight, silent, listed } = destination;
    if (listed || !waiting.first || inFlight >= (silent ? 1 : this.options.confirmWindow)) return;
    destination.listed = true;
    this.sendable.push(destination);
  }

  private get totalWindow(): number {
    return windows * this.options.confirmWindow;
  }

  private get writable(): boolean {
    return (
      !this.saturated &&
      this.examined === undefined &&
      this.blockedBy === undefined &&
      this.retiringSince === undefined &&
      this.inFlight < this.totalWindow
    );
  }

  /** Destinations take turns. */
  private pump(): void {
    while (this.session && this.writable) {
      while (this.suspects.first?.state === 'ended') this.suspects.shift();
      if (this.suspects.first) {
        const suspect = this.inFlight === 0 ? this.suspects.shift() : undefined;
        if (!suspect) break;
        this.examined = suspect;
        if (!this.write(this.session, suspect)) this.suspects.unshift(suspect);
        continue;
      }
      const destination = this.sendable.shift();
      if (!destination) break;
      destination.listed = false;
      const next = destination.waiting.shift();
      if (next && !this.write(this.session, next)) destination.waiting.unshift(next);
      this.list(destination);
    }
  }

  /** @returns false when the channel is closing: its close event follows, and the message goes out on the next channel. */
  private write(session: Session, publication: Publication): boolean {
    const { exchange, routingKey, message, destination } = publication;
    const options = { ...message.properties, mandatory: true } as Options.Publish;
    try {
      const flowing = session.channel.publish(exchange, routingKey, message.content, options, (error: Error | null) =>
        this.settle(session, publication, error),
      );
      this.saturated = !flowing;
    } catch (error) {
      this.examined = undefined;
      if (error instanceof IllegalOperationError) {
        this.session = undefined;
        return false;
      }
      this.end(publication, unencodable(publication, error));
      return true;
    }
    publication.state = 'written';
    this.inFlight += 1;
    destination.inFlight += 1;
    if (session.abandoned > 0) session.writtenSince += 1;
    return true;
  }

  private settle(session: Session, publication: Publication, error: Error | null): void {
    if (!error) publication.destination.silent = false;
    if (!this.leaveWindow(publication)) {
      session.abandoned -= 1;
      if (session.abandoned === 0) session.writtenSince = 0;
    } else if (!error) {
      this.end(publication, publication.returned ? unroutable(publication) : undefined);
    } else if (!session.exception) {
      this.end(publication, notConfirmed(publication, error.message, 'send it again'));
    } else if (session.alone) {
      this.end(publication, refusedBy(session.exception, publication));
    } else {
      publication.returned = false;
      publication.suspect = true;
      this.suspects.push(publication);
    }
    this.list(publication.destination);
    if (session === this.session) this.replaceWhenDue(session);
    this.pump();
  }

  /** @returns false when it was not in it any more. */
  private leaveWindow(publication: Publication): boolean {
    if (publication.state !== 'written') return false;
    publication.state = 'waiting';
    if (this.examined === publication) this.examined = undefined;
    this.inFlight -= 1;
    publication.destination.inFlight -= 1;
    return true;
  }

  private end(publication: Publication, error?: Error): void {
    publication.state = 'ended';
    this.open.remove(publication);
    if (error) publication.reject(error);
    else publication.resolve();
    if (this.open.size > 0) return;
    for (const resolve of this.idle) resolve();
    this.idle.clear();
  }

  /**
   * The broker returns a message just before it confirms it, and it confirms in order: it is among the oldest. Twins of one
   * message share their fate, so any will do.
   */
  private markReturned({ fields, properties }: AmqpReturn): void {
    const { messageId } = properties as { readonly messageId?: string };
    for (let found = this.open.oldest; found; found = found.newer) {
      const { state, message, exchange, routingKey, returned } = found;
      if (state !== 'written' || returned || message.properties.messageId !== messageId) continue;
      if (exchange !== fields.exchange || routingKey !== fields.routingKey) continue;
      found.returned = true;
      return;
    }
  }

  /** Ends what has passed its time, and forgets destinations that nobody uses. */
  private look(): void {
    const limit = performance.now() - this.options.sendTimeoutMs;
    while (this.open.oldest && this.open.oldest.since <= limit) this.fail(this.open.oldest);
    if (this.session) this.replaceWhenDue(this.session);
    this.pump();
    this.forget(limit);
  }

  private fail(publication: Publication): void {
    const { destination, suspect } = publication;
    if (this.leaveWindow(publication)) {
      // Its confirmation may still come; nobody waits for it.
      destination.silent = true;
      if (this.session) this.session.abandoned += 1;
    } else if (!suspect) destination.waiting.shift();
    this.end(publication, this.overdue(publication));
    this.list(destination);
  }

  private forget(limit: number): void {
    for (const [exchange, ofExchange] of this.destinations) {
      for (const [routingKey, { waiting, inFlight, silent, listed, usedAt }] of ofExchange) {
        const inUse = waiting.first !== undefined || inFlight > 0 || silent || listed || usedAt > limit;
        if (!inUse) ofExchange.delete(routingKey);
      }
      if (ofExchange.size === 0) this.destinations.delete(exchange);
    }
    if (this.destinations.size > 0 || this.open.size > 0) return;
    clearInterval(this.watchdog);
    this.watchdog = undefined;
  }

  /** amqplib keeps account of every message from the first unconfirmed one on. */
  private replaceWhenDue({ abandoned, writtenSince }: Session): void {
    if (this.retiringSince === undefined) {
      if (abandoned < this.totalWindow && writtenSince < longestAccount) return;
      this.retiringSince = performance.now();
    }
    const late = performance.now() - this.retiringSince > longestRetirementMs;
    if (!late && this.inFlight > this.silentInFlight()) return;
    this.detach();
    this.options.replaceChannel();
  }

  private silentInFlight(): number {
    let count = 0;
    for (const ofExchange of this.destinations.values()) {
      for (const { silent, inFlight } of ofExchange.values()) if (silent) count += inFlight;
    }
    return count;
  }

  private overdue(publication: Publication): Error {
    const { sendTimeoutMs } = this.options;
    const problem = this.blockedBy === undefined ? '' : `; it is blocked: ${this.blockedBy}`;
    return notConfirmed(
      publication,
      `RabbitMQ did not confirm it within ${sendTimeoutMs} ms${problem}`,
      'check that it runs and is reachable and that its queues have a majority, then send it again',
    );
  }
}
