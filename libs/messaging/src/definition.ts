import { z } from 'zod';
import { errorText } from './logger.js';
import { TerminalError, UnknownVersionError, ValidationError } from './errors.js';
import { createMessage, type Message, type MessageFields } from './message.js';
import { bounds, findUnstorable, nameProblem } from './storable.js';

/** What this library needs to know of a contract; `libs/contracts` defines them. `Data` is the decoded form. */
export interface MessageDefinition<Data = unknown> {
  readonly kind: 'command' | 'event';
  readonly type: string;
  readonly version: number;
  readonly owner: string;
  readonly key?: string;
  readonly schema: z.ZodType<Data>;
  /** Where its personal fields are: `email`, `variables.*`. */
  readonly personal?: readonly string[];
  /** Field that says whom they are about; with it plain text is sealed, without it they come sealed. */
  readonly personalTo?: string;
  /** Step n takes the JSON data of version n to version n + 1; without a step older data cannot be read. */
  readonly upcast?: Readonly<Record<number, (data: never) => unknown>>;
}

/** Data with its definition, before it has an envelope: what `RegisterUser.of(data)` returns. */
export interface Draft<Data = unknown> {
  readonly definition: MessageDefinition<Data>;
  readonly data: Data;
}

/** `Data` of a definition, decoded. */
export type DataOf<D> = D extends { readonly schema: z.ZodType<infer Data> } ? Data : never;

/** `Data` of a definition, decoded, or the data itself where only that is known. */
export type PayloadOf<Of> = Of extends { readonly schema: z.ZodType<infer Data> } ? Data : Of;

/**
 * Checks the data and gives it an envelope.
 * @throws ValidationError naming every field that does not fit
 */
export function toMessage(
  draft: Draft,
  fields: Pick<MessageFields, 'source'> & Partial<Omit<MessageFields, 'type' | 'version' | 'data'>>,
): Message {
  const { definition, data } = draft;
  const encoded = z.safeEncode(definition.schema, data);
  if (!encoded.success) throw invalid(definition, encoded.error, 'cannot be sent');
  refuseUnstorable(definition, encoded.data);
  const subject = fields.subject ?? keyOf(definition, encoded.data);
  refuseSubject(definition, subject);
  const { type, version } = definition;
  // The spread comes last: what is added after a spread costs V8 5 µs.
  return createMessage({ type, version, data: encoded.data, ...fields, subject });
}

/**
 * Brings what arrived, or was stored, to the current version, checks it and decodes it.
 * @throws UnknownVersionError when the data is newer than the definition, or older than its upcasters reach
 * @throws TerminalError when an upcaster throws
 * @throws ValidationError naming every field that does not fit
 */
export function decode<Data>(definition: MessageDefinition<Data>, message: Pick<Message, 'data' | 'version'>): Data {
  const data = message.version === definition.version ? message.data : upcast(definition, message);
  const decoded = z.safeDecode(definition.schema, data);
  if (!decoded.success) throw invalid(definition, decoded.error, 'was refused');
  refuseUnstorable(definition, data);
  return decoded.data;
}

function upcast(definition: MessageDefinition, message: Pick<Message, 'data' | 'version'>): unknown {
  const { type, version: current, upcast: steps = {} } = definition;
  // The message keeps what it came with, whatever a step does to its argument.
  let data: unknown = structuredClone(message.data);
  for (let version = message.version; version !== current; version += 1) {
    const step = version < current ? steps[version] : undefined;
    if (!step) {
      const what = `${type} v${message.version} is unknown here, v${current} is handled`;
      const remedy = version > current ? 'deploy a release that knows it' : `add the upcast step ${version}`;
      throw new UnknownVersionError(`${what}; ${remedy}, then redrive`);
    }
    try {
      data = step(data as never);
    } catch (error) {
      const what = `upcasting ${type} from v${version} to v${version + 1} failed: ${errorText(error)}`;
      throw new TerminalError(`${what}; correct that step, then redrive`, { cause: error });
    }
  }
  return data;
}

/** The actor a command is for: its key field, or else its subject. */
export function keyOf(definition: MessageDefinition, data: unknown): string | undefined {
  if (definition.key === undefined) return undefined;
  return String((data as Record<string, unknown>)[definition.key]);
}

/** Refused here it is a clear error, and not a statement that fails later on for all who share it. */
function refuseUnstorable(definition: MessageDefinition, data: unknown): void {
  const unstorable = findUnstorable(data);
  if (unstorable) throw refusal(definition, unstorable.field || 'data', unstorable.problem);
}

/** A key that another service would not take in either. */
function refuseSubject(definition: MessageDefinition, subject: string | undefined): void {
  const problem = subject === undefined ? undefined : nameProblem(subject, bounds.keyBytes);
  if (problem) throw refusal(definition, `its key (${definition.key ?? 'subject'})`, problem);
}

const refusal = ({ type, version }: MessageDefinition, field: string, problem: string): ValidationError =>
  new ValidationError(`${type} v${version} cannot be stored: ${field} ${problem}`);

function invalid(definition: MessageDefinition, error: z.ZodError, what: string): ValidationError {
  const places = error.issues.map((issue) => `${issue.path.join('.') || 'data'}: ${issue.message}`).join('; ');
  return new ValidationError(`${definition.type} v${definition.version} ${what}: ${places}`);
}
