import { z } from 'zod';

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
}

/** A request to one service. Unknown fields are refused: a typo must not silently change what is asked. */
export function defineCommand<Schema extends z.ZodObject>(
  type: string,
  options: Options<Schema> & { readonly key?: keyof z.output<Schema> & string },
): Definition<'command', Schema> {
  return define('command', type, { ...options, schema: options.schema.strict() as unknown as Schema });
}

/** A fact. Unknown fields are dropped on arrival: the owner may add a field without breaking its readers. */
export function defineEvent<Schema extends z.ZodObject>(
  type: string,
  options: Options<Schema>,
): Definition<'event', Schema> {
  return define('event', type, options);
}

function define<Kind extends 'command' | 'event', Schema extends z.ZodObject>(
  kind: Kind,
  type: string,
  options: Options<Schema> & { readonly key?: keyof z.output<Schema> & string },
): Definition<Kind, Schema> {
  const definition: Definition<Kind, Schema> = {
    kind,
    type,
    ...options,
    of: (data) => ({ definition, data }),
  };
  return definition;
}

/** A `Date` in code, an ISO 8601 string with milliseconds on the wire: dates round-trip as dates. */
export const dateTime = z.codec(z.iso.datetime({ precision: 3 }), z.date(), {
  decode: (text) => new Date(text),
  encode: (date) => date.toISOString() as never,
});
