import type { DataOf, Draft, Message, MessageDefinition, ReplyAddress } from '@starter/messaging';
import type { z } from 'zod';

/** A command as a decider sees it: decoded data and the envelope it came in (its time, its id). */
export interface Command<Data = unknown> {
  readonly data: Data;
  readonly message: Message;
}

/** An event as a decider sees it: decoded data, and the position in its stream. */
export interface RecordedEvent<Data = unknown> {
  readonly type: string;
  readonly data: Data;
  /** 1 for the first event of the stream. */
  readonly sequence: number;
  readonly time: Date;
}

/** A business rule says no. Not an error: the command is answered and recorded, and nothing else happens. */
export interface Rejection {
  readonly rejected: string;
}
export const reject = (reason: string): Rejection => ({ rejected: reason });
export const isRejection = (decision: Decision): decision is Rejection => 'rejected' in decision;

/** Events to append, possibly none, or a refusal. */
export type Decision = readonly Draft[] | Rejection;

/** A command that an event sets off; it is sent if and only if the event is stored. */
export interface OutgoingCommand {
  readonly type: string;
  readonly version: number;
  /** Routing key. Default: the type. */
  readonly address?: string;
  /** Fixed by the event, so that it is the same command however often it is derived. */
  readonly id: string;
  readonly data: unknown;
  readonly subject?: string;
  readonly replyTo?: ReplyAddress;
}

interface CommandHandler<State> {
  readonly definition: MessageDefinition;
  // A method, so that an actor of any state fits in a list of actors.
  decide(command: Command<never>, state: State): Decision;
}

interface EventHandler<State> {
  readonly definition: MessageDefinition;
  /** The data is not even decoded. */
  readonly ignored?: true;
  evolve(state: State, event: RecordedEvent<never>): State;
}

export interface SnapshotPolicy<State> {
  /** Raise it whenever the meaning or the shape of the state changes: snapshots of other versions are not used. */
  readonly version: number;
  /** The state as JSON and back; a codec keeps dates, maps and sets. */
  readonly schema: z.ZodType<State>;
  /** A snapshot is taken after so many events. Default 100. */
  readonly every?: number;
  /**
   * … and when its past is longer by this share than at the last one: a state that grows with its events costs more each time,
   * so that snapshots of a long life cost a multiple of the last one, and not its square. Default 0.
   */
  readonly growth?: number;
  /** … or when loading took longer, in milliseconds. Default 50. */
  readonly loadSlowerThanMs?: number;
}

export interface ActorOptions<State> {
  readonly initialState: State;
  /** Pure: the same command and state give the same decision, whenever and however often it is asked. */
  readonly decide: ReadonlyMap<string, CommandHandler<State>>;
  /** Pure: folds one event into the state. */
  readonly evolve: ReadonlyMap<string, EventHandler<State>>;
  /** Pure: the commands that an event sets off. */
  readonly outgoing?: (event: RecordedEvent) => readonly OutgoingCommand[];
  /** Whether no more commands are to be expected: it leaves memory at once, and is loaded again should one come. */
  isOver?(state: State): boolean;
  /** About how many bytes of memory the state takes. Default: 500 for each of its events. */
  sizeOf?(state: State): number;
  /** For actors that live long. Without it an actor is loaded from all of its events. */
  readonly snapshot?: SnapshotPolicy<State>;
}

/** What an actor is: a name and three pure functions. */
export interface Actor<State> extends ActorOptions<State> {
  /** Prefix of its stream ids: `user-<id>`. */
  readonly name: string;
}

export function defineActor<State>(name: string, options: ActorOptions<State>): Actor<State> {
  return { name, ...options };
}

/** Collects what an actor handles; naming a type twice is a mistake. */
export function on<H extends { readonly definition: MessageDefinition }>(
  ...handlers: (H | readonly H[])[]
): ReadonlyMap<string, H> {
  const byType = new Map<string, H>();
  for (const handler of handlers.flat() as H[]) {
    const { type } = handler.definition;
    if (byType.has(type)) throw new Error(`${type} is handled twice; keep one handler for it`);
    byType.set(type, handler);
  }
  return byType;
}

export function handle<State, D extends MessageDefinition>(
  definition: D,
  decide: (command: Command<DataOf<D>>, state: State) => Decision,
): CommandHandler<State> {
  return { definition, decide: decide };
}

export function apply<State, D extends MessageDefinition>(
  definition: D,
  evolve: (state: State, event: RecordedEvent<DataOf<D>>) => State,
): EventHandler<State> {
  return { definition, evolve: evolve };
}

/** Stands in for the handler of an event that changes nothing: in the state of an actor, or in the rows of a projection. */
export interface Ignored {
  readonly definition: MessageDefinition;
  readonly ignored: true;
  evolve<State>(state: State): State;
  write(): Promise<void>;
}

/** Events that are known and change nothing, among them retired ones: `on(apply(…), ignore(NicknameChanged))`. */
export const ignore = (...definitions: MessageDefinition[]): readonly Ignored[] =>
  definitions.map((definition) => ({
    definition,
    ignored: true,
    evolve: (state) => state,
    write: () => Promise.resolve(),
  }));

export const streamId = (actor: Pick<Actor<never>, 'name'>, id: string): string => `${actor.name}-${id}`;
