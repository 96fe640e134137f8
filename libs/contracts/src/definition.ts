import { z } from 'zod';
import { personalFields } from './personal.js';

/** Data as it travels. */
export type JsonObject = Readonly<Record<string, z.core.util.JSONType>>;

/** Step n takes the JSON data of version n to version n + 1. Pure: it reads nothing but its argument. */
export type Upcasters = Readonly<Record<number, (data: JsonObject) => JsonObject>>;

/** What a service promises about one kind of message: its name, its version, who owns it, and its shape. */
export interface Definition<Kind extends 'command' | 'event', Schema extends z.ZodObject> {
  readonly kind: Kind;
  /** Dotted name, also the routing key of a command: `user.register`. */
  readonly type: string;
  readonly version: number;
  /** Service that handles the command or publishes the event. */
  readonly owner: string;
  /** Field of the data that names the actor a command is for. */
  readonly key?: keyof z.output<Schema> & string;
  readonly schema: Schema;
  /** Field of a command that says whom its personal fields are about. */
  readonly personalTo?: keyof z.output<Schema> & string;
  /** Where its personal fields are, `email` or `variables.*`; absent when it has none. */
  readonly personal?: readonly string[];
  /** How data of older versions is brought to this one; one step for each of them. */
  readonly upcast?: Upcasters;
  /** Data with its definition; it is checked against the schema when it is sent and again when it arrives. */
  of(data: z.output<Schema>): Drafted<this, z.output<Schema>>;
}

export interface Drafted<Of, Data> {
  readonly definition: Of;
  readonly data: Data;
}

/** The decoded data of a definition: `DataOf<typeof UserRegistered>`. */
export type DataOf<D extends { schema: z.ZodType }> = z.output<D['schema']>;

interface Options<Schema extends z.ZodObject> {
  readonly version: number;
  readonly owner: string;
  readonly schema: Schema;
  /** Required from version 2 on: `{ 1: (v1) => v2, 2: (v2) => v3 }`. */
  readonly upcast?: Upcasters;
}

interface CommandOptions<Schema extends z.ZodObject> extends Options<Schema> {
  readonly key?: keyof z.output<Schema> & string;
  /** Required with fields that are `personal(…)`: their subject, whose key seals them and is destroyed to erase them. */
  readonly personalTo?: keyof z.output<Schema> & string;
}

/**
 * A request to one service. Unknown fields are refused: a typo must not silently change what is asked.
 * @throws Error when the steps of `upcast` are not those from version 1 to the current one, or `personalTo` is missing
 */
export function defineCommand<Schema extends z.ZodObject>(
  type: string,
  options: CommandOptions<Schema>,
): Definition<'command', Schema> {
  return define('command', type, { ...options, schema: options.schema.strict() as unknown as Schema });
}

/**
 * A fact. Unknown fields are dropped on arrival: the owner may add a field without breaking its readers.
 * @throws Error when the steps of `upcast` are not those from version 1 to the current one, or a field is `personal(…)`,
 * which would let plain text into a log
 */
export function defineEvent<Schema extends z.ZodObject>(
  type: string,
  options: Options<Schema>,
): Definition<'event', Schema> {
  return define('event', type, options);
}

/** What is left of an event that is no longer published: logs hold it for ever, and nobody needs to read it. */
export interface RetiredEvent {
  readonly kind: 'event';
  readonly type: string;
  /** The last version that was ever published. */
  readonly version: number;
  readonly owner: string;
  readonly retired: true;
  readonly schema: z.ZodUnknown;
}

/** A tombstone for an event: whoever meets it in a log lists it in `ignore(...)`, and goes on. Never use the type again. */
export const retireEvent = (
  type: string,
  { lastVersion, owner }: { readonly lastVersion: number; readonly owner: string },
): RetiredEvent => ({ kind: 'event', type, version: lastVersion, owner, retired: true, schema: z.unknown() });

function define<Kind extends 'command' | 'event', Schema extends z.ZodObject>(
  kind: Kind,
  type: string,
  options: CommandOptions<Schema>,
): Definition<Kind, Schema> {
  requireSteps(type, options);
  const { personal, plain } = personalFields(type, options.schema);
  if (plain.length > 0 && kind === 'event') {
    throw new Error(`${type} would bring plain text into a log; make these fields \`sealed(…)\`: ${plain.join(', ')}`);
  }
  if (plain.length > 0 && options.personalTo === undefined) {
    throw new Error(`${type} has personal fields; name the field that says whom they are about as personalTo`);
  }
  const definition: Definition<Kind, Schema> = {
    kind,
    type,
    ...options,
    ...(personal.length > 0 ? { personal } : {}),
    of: (data) => ({ definition, data }),
  };
  return definition;
}

function requireSteps(type: string, { version, upcast = {} }: Pick<Options<z.ZodObject>, 'version' | 'upcast'>): void {
  if (!Number.isInteger(version) || version < 1) {
    throw new Error(`${type} has version ${version}; versions are whole numbers from 1`);
  }
  const needed = Array.from({ length: version - 1 }, (_, index) => String(index + 1));
  const given = Object.keys(upcast);
  const missing = needed.filter((step) => !given.includes(step));
  if (missing.length > 0) {
    throw new Error(
      `${type} v${version} cannot read its older versions; add to upcast: step ${missing.join(', step ')}`,
    );
  }
  const unused = given.filter((step) => !needed.includes(step));
  if (unused.length > 0) {
    throw new Error(`${type} v${version} has steps that lead nowhere; remove from upcast: ${unused.join(', ')}`);
  }
}

/** A `Date` in code, an ISO 8601 string with milliseconds on the wire: dates round-trip as dates. */
export const dateTime = z.codec(z.iso.datetime({ precision: 3 }), z.date(), {
  decode: (text) => new Date(text),
  encode: (date) => date.toISOString() as never,
});
