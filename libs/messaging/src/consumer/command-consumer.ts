import type { DataSource } from 'typeorm';
import type { z } from 'zod';
import { DeadLetterTable } from '../dead-letters/dead-letter-table.js';
import { heldReplies } from '../dead-letters/tell-senders.js';
import { removeRedriven } from '../dead-letters/scheduled-events.js';
import { inTransaction } from '../database/transaction.js';
import type { DataOf, MessageDefinition } from '../definition.js';
import { recordDiscarded, type Discarded } from '../inbox/discarded.js';
import type { Flow, FlowOptions } from '../flow/flow-gate.js';
import { withPoolPressure } from '../flow/pool-pressure.js';
import { errorText, type Logger } from '../logger.js';
import type { Message } from '../message.js';
import type { ConsumerMonitor } from '../monitor/consumer-monitor.js';
import { done, doneAs, nextAttempt, retryBlameless, type Outcome } from '../outcome.js';
import type { Outbox } from '../outbox/outbox.js';
import type { RateLimiter } from '../rate-limit/rate-limiter.js';
import { replyEntry } from '../reply.js';
import type { StandStill } from '../stand-stills.js';
import { commandsExchange, type Binding, type CommandTransport } from '../transport/command-transport.js';
import type { Consumer } from '../transport/delivery.js';
import { RevokeTask, revocationAddress } from '../revoke-task.js';
import { Dispatcher, type MessageHandler } from './dispatcher.js';
import { namedIn, type HandlerOptions } from './handler-options.js';
import { Suspects } from './suspects.js';
import { outageRetryMs } from './triage.js';
import { Turns } from './turns.js';

export interface CommandConsumerOptions extends HandlerOptions {
  readonly service: string;
  /** The queue, and the consumer's name in the inbox. Default `<service>.commands`. */
  readonly queue?: string;
  readonly dataSource: DataSource;
  /** Of the service: a limit holds over all of its queues. Default: no type can have a limit. */
  readonly limiter?: RateLimiter;
  /** What revokes the service's commands comes here as well: see {@link CommandConsumer.onRevoked}. */
  readonly takesRevocations?: boolean;
  /** How long its inbox knows a message. Default 30 days. */
  readonly inboxRetentionMs?: number;
  readonly outbox: Outbox;
  readonly transport: CommandTransport;
  readonly logger: Logger;
  readonly monitor: ConsumerMonitor;
  /** Most commands handled at the same time. Default 100. */
  readonly prefetch?: number;
  /** What bounds them besides. Default: 32 MiB of messages, and fewer while many wait for a database connection. */
  readonly flow?: FlowOptions;
  /** Of all consumers of the process. Default: its own. */
  readonly turns?: Turns;
}

export interface CommandHandlerOptions extends HandlerOptions {
  /** Default: the command's type. Replies arrive under the address that they were asked for. Null: under those of others. */
  readonly routingKey?: string | null;
  /** Most that all processes of the service handle, such as `"100/h"`, `"5/s"`, unless another is stored. Default: any number. */
  readonly rateLimit?: string;
}

/** One update, whatever the service's own handlers need. */
const revocation: CommandHandlerOptions = {
  routingKey: null,
  failurePolicy: { maxRetries: 3, backoff: { baseMs: 1_000, maxMs: 10_000 } },
  timeLimit: { softMs: 30_000, hardMs: 60_000 },
};

/** Commands of a service: one durable queue, bound for every type that has a handler. */
export class CommandConsumer {
  readonly queue: string;
  private readonly dispatcher: Dispatcher;
  private readonly suspects: Suspects;
  private readonly bindings: Binding[] = [];
  private readonly deadLetters: DeadLetterTable;
  /** Where nothing is listed, no command of the service can be revoked any more once it has come. */
  private revoke: MessageHandler<DataOf<typeof RevokeTask>> = () => Promise.resolve(doneAs.duplicates);
  private consumer: Consumer | undefined;
  private deadLetterConsumer: Consumer | undefined;

  constructor(private readonly options: CommandConsumerOptions) {
    this.queue = options.queue ?? `${options.service}.commands`;
    this.suspects = new Suspects({ turns: new Turns(), ...options, consumer: this.queue });
    this.deadLetters = new DeadLetterTable({
      ...{ ...options, consumer: this.queue, kind: 'command' },
      onOpened: (tx, opened) => options.outbox.add(tx, heldReplies(opened, 'dead-letter', options.service)),
    });
    this.dispatcher = new Dispatcher({
      ...options,
      consumer: this.queue,
      discarded: (discarded) => this.recordDiscarded(discarded),
    });
    if (options.takesRevocations) this.handle(RevokeTask, (received) => this.revoke(received), revocation);
  }

  /** Who revokes commands, where somebody can; it decides which. */
  onRevoked(revoke: MessageHandler<DataOf<typeof RevokeTask>>): void {
    this.revoke = revoke;
  }

  handle<Schema extends z.ZodType>(
    definition: MessageDefinition & { readonly schema: Schema },
    handler: MessageHandler<z.output<Schema>>,
    options: CommandHandlerOptions = {},
  ): void {
    const { routingKey = definition.type, rateLimit } = options;
    this.dispatcher.register(definition, handler, options);
    this.options.monitor.expect(definition.type);
    if (rateLimit !== undefined) this.options.limiter?.setDefault(definition.type, rateLimit);
    if (routingKey === null) return;
    this.bind(routingKey);
    if (this.options.takesRevocations) this.bind(revocationAddress(routingKey));
    this.options.logger.info('binding', {
      ...{ queue: this.queue, routingKey, command: definition.type },
      ...namedIn(options),
    });
  }

  /** Names of the handlers by type. */
  get names(): ReadonlyMap<string, string> {
    return this.dispatcher.names;
  }

  /** What is sent under this key comes here as well. */
  bind(routingKey: string): void {
    this.bindings.push({ exchange: commandsExchange, queue: this.queue, routingKey });
  }

  /** Declared before anything is consumed or sent, so that no service finds another's queue missing for longer than a start. */
  async declare(): Promise<void> {
    await this.options.transport.declare({
      exchanges: [{ name: commandsExchange, type: 'direct' }],
      queues: [{ name: this.queue }],
      bindings: this.bindings,
    });
  }

  async start(): Promise<void> {
    this.consumer = await this.options.transport.consume(
      this.queue,
      this.options.monitor.watch(
        this.suspects.guard(({ message, attempt }) =>
          this.options.limiter?.isLimited(message.type)
            ? this.dispatchLimited(this.options.limiter, message, attempt)
            : this.dispatch(message, attempt),
        ),
      ),
      { prefetch: this.options.prefetch ?? 100, flow: withPoolPressure(this.options.dataSource, this.options.flow) },
    );
    this.options.monitor.follow(this.consumer);
    this.deadLetterConsumer = await this.options.transport.consumeDeadLetters(this.queue, this.deadLetters.take);
  }

  /** What is in hand and may be; undefined before the start. */
  get flow(): Flow | undefined {
    return this.consumer?.flow;
  }

  /** Without the plain personal data of the types that are handled here. */
  redact(message: Message): Message {
    return this.dispatcher.redact(message);
  }

  /** What cannot be settled, for longer than so many milliseconds. */
  standStills(ms: number): StandStill[] {
    const ofBroker = [this.consumer, this.deadLetterConsumer].flatMap((consumer) => consumer?.standStills(ms) ?? []);
    return [...ofBroker, ...this.deadLetters.standStills(ms)];
  }

  get attached(): boolean {
    return [this.consumer, this.deadLetterConsumer].every((consumer) => consumer?.attached ?? false);
  }

  /** Stops taking and waits at most `drainMs` for what is in hand; the rest goes back to the queue. */
  async stop(drainMs?: number): Promise<void> {
    this.deadLetters.stop();
    await Promise.all([this.consumer?.close(drainMs), this.deadLetterConsumer?.close(drainMs)]);
    this.dispatcher.abandon();
    await this.suspects.release();
  }

  /** What has to wait for its turn is stored, so that the broker has done its part. */
  private async dispatchLimited(limiter: RateLimiter, message: Message, claimed: number): Promise<Outcome> {
    let attempt: number | undefined;
    try {
      attempt = await limiter.admits(message, claimed, this.queue);
    } catch (error) {
      return retryBlameless(outageRetryMs, `the rate limit of ${message.type} could not be asked: ${errorText(error)}`);
    }
    if (attempt === undefined) return done;
    const outcome = await this.dispatch(message, attempt);
    if (outcome.kind !== 'retry') return outcome;
    await limiter.expectRetry(message, nextAttempt(outcome, attempt), this.queue).catch((error: unknown) => {
      const details = { id: message.id, type: message.type, error: errorText(error) };
      this.options.logger.debug('a retry could not be noted; it waits for its turn again', details);
    });
    return outcome;
  }

  private dispatch(message: Message, attempt: number): Promise<Outcome> {
    return message.redrives ? this.redriven(message, attempt) : this.dispatcher.dispatch(message, attempt);
  }

  /** It is a dead letter until it has succeeded. */
  private async redriven(message: Message, attempt: number): Promise<Outcome> {
    const outcome = await this.dispatcher.dispatch(message, attempt);
    if (outcome.kind !== 'done' && outcome.kind !== 'discard') return outcome;
    try {
      await removeRedriven(this.options.dataSource, this.queue, message);
      return outcome;
    } catch (error) {
      return retryBlameless(outageRetryMs, `its dead letter could not be removed: ${errorText(error)}`);
    }
  }

  /** The refusal is also told, once, to whoever waits for a reply: a workflow must not wait for ever. */
  private recordDiscarded(discarded: Discarded): Promise<void> {
    const { dataSource, outbox, service } = this.options;
    return inTransaction(dataSource, async (tx) => {
      const isNew = (await recordDiscarded(tx, this.queue, 'command', [discarded])) > 0;
      const { message, reason: failure } = discarded;
      const reply = isNew ? replyEntry(message, { failure, hopeless: 'invalid' }, service) : undefined;
      if (reply) await outbox.add(tx, [reply]);
    });
  }
}
