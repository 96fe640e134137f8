import type { MessageDefinition } from './definition.js';
import { ValidationError } from './errors.js';
import type { Message } from './message.js';
import { isSealed } from './sealed-form.js';

type Paths = readonly string[];
type Replace = (value: unknown) => unknown;

/** A copy of `data` with the values at these paths replaced. What stands where a path leads through is replaced as a whole. */
export const replaceFields = (data: unknown, paths: Paths, replace: Replace): unknown =>
  paths.reduce((current, path) => replaceAt(current, path.split('.'), replace), data);

function replaceAt(value: unknown, [step, ...rest]: Paths, replace: Replace): unknown {
  if (value === undefined || value === null) return value;
  if (step === undefined || typeof value !== 'object') return replace(value);
  if (Array.isArray(value)) return value.map((item) => replaceAt(item, rest, replace));
  const fields = Object.entries(value).map(([name, field]) => [
    name,
    step === '*' || step === name ? replaceAt(field, rest, replace) : (field as unknown),
  ]);
  return Object.fromEntries(fields) as unknown;
}

/** The texts at these paths, in their order. */
export function textsAt(data: unknown, paths: Paths): string[] {
  const texts: string[] = [];
  replaceFields(data, paths, (value) => {
    if (typeof value === 'string') texts.push(value);
    return value;
  });
  return texts;
}

export const redacted = '[redacted]';

/**
 * A message that may be kept although it fits no schema: personal fields are blanked unless they are sealed. So is every
 * field that the definition does not know, for a personal one may only be misspelt.
 */
export function redact(definition: MessageDefinition, message: Message): Message {
  const { personal, schema, version } = definition;
  const { data } = message;
  if (!personal) return message;
  if (message.version !== version || typeof data !== 'object' || data === null) return { ...message, data: redacted };
  const known = 'shape' in schema ? Object.keys(schema.shape as object) : [];
  const fields = Object.entries(data).map(([name, value]) => [
    name,
    known.includes(name) ? (value as unknown) : redacted,
  ]);
  const blank: Replace = (value) => (typeof value === 'string' && isSealed(value) ? value : redacted);
  return { ...message, data: replaceFields(Object.fromEntries(fields), personal, blank) };
}

/** Data that fits the schema of its definition, decoded or as it travels. */
export interface PersonalItem {
  readonly definition: Pick<MessageDefinition, 'type' | 'personal' | 'personalTo'>;
  readonly data: unknown;
}

/**
 * Whom the data is about.
 * @throws ValidationError when it names nobody
 */
export function subjectOf({ definition: { type, personalTo = '' }, data }: PersonalItem): string {
  const subject = (data as Readonly<Record<string, unknown>>)[personalTo];
  if (typeof subject === 'string' && /^[\w.-]+$/.test(subject)) return subject;
  throw new ValidationError(`${type}: ${personalTo} must be letters, digits, "-", "_" and "."; it names the subject`);
}
