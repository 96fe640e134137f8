import { z } from 'zod';

/**
 * Personal data of which only the service that it belongs to, and those that it trusts with the key, can make sense:
 * `sealed:v1:<owner>/<subject>/<field>:<iv>:<ciphertext and tag>`, the last two in base64url. Events hold nothing else, because a
 * log is never changed: what is erased is the subject's key. Also for commands of a service that is never told the plain text of
 * somebody it knows nothing of, such as the one that sends e-mails.
 *
 * `fields` are the `personal(…)` fields whose texts belong here, by their names: where a name is shown, nobody can put a token.
 */
export const sealed = (...fields: [string, ...string[]]) =>
  z
    .string()
    .regex(
      new RegExp(
        `^sealed:v1:[\\w.-]+/[\\w.-]+/(?:${fields.map((field) => field.replaceAll('.', '\\.')).join('|')}):${ciphertext}$`,
      ),
      {
        error: ({ input }) =>
          anySealed.test(String(input))
            ? `must be what was sealed as ${fields.join(' or ')}`
            : 'must be sealed; where personal data comes in, the field of the command is marked personal(…)',
      },
    )
    .meta({ personal: 'sealed' });

const ciphertext = '[\\w-]{16}:[\\w-]{22,}';
const anySealed = new RegExp(`^sealed:v1:[\\w.-]+/[\\w.-]+/[\\w.]+:${ciphertext}$`);

/** Whose a sealed text is, `<owner>/<subject>`; undefined when it is not sealed. */
export const sealedFor = (text: unknown): string | undefined =>
  typeof text === 'string' && anySealed.test(text) ? text.split(':')[2]?.split('/').slice(0, 2).join('/') : undefined;

/**
 * A personal field of a command: the plain text, or the same sealed. It is sealed before anything of the command is stored or
 * decided, so that whoever handles it sees sealed text only.
 */
export const personal = <Schema extends z.ZodType<string, string>>(schema: Schema) =>
  z
    .union(
      [
        z.string().regex(anySealed),
        schema.refine((text) => !text.startsWith('sealed:'), 'must not begin with "sealed:"'),
      ],
      {
        error: ({ errors }) =>
          errors
            ?.at(-1)
            ?.map(({ message }) => message)
            .join('; '),
      },
    )
    .meta({ personal: 'plain' });

/** The schema inside `personal(…)`: what people type in, which is never sealed. */
export const plain = <Schema extends z.ZodType<string, string>>(field: ReturnType<typeof personal<Schema>>): Schema =>
  field.options[1];

export interface PersonalFields {
  /** Paths of the personal fields; `*` stands for every key of a record and every place in an array: `variables.*`. */
  readonly personal: readonly string[];
  /** Those of them that may come as plain text. */
  readonly plain: readonly string[];
}

/** @throws Error when a personal field stands where it would not be found in data: in a union, a tuple or a map */
export function personalFields(type: string, schema: z.ZodType): PersonalFields {
  const found = [...marksIn(type, schema, [])];
  const paths = (marks: typeof found) => marks.map(({ path }) => path.join('.'));
  return { personal: paths(found), plain: paths(found.filter(({ mark }) => mark === 'plain')) };
}

interface Mark {
  readonly path: readonly string[];
  readonly mark: unknown;
}

function* marksIn(type: string, schema: z.ZodType, path: readonly string[]): Generator<Mark> {
  const mark = schema.meta()?.['personal'];
  if (mark !== undefined) yield { path, mark };
  else if (schema instanceof z.ZodObject) {
    for (const [key, field] of Object.entries(schema.shape)) yield* marksIn(type, field as z.ZodType, [...path, key]);
  } else if (schema instanceof z.ZodRecord) yield* marksIn(type, schema.valueType as z.ZodType, [...path, '*']);
  else if (schema instanceof z.ZodArray) yield* marksIn(type, schema.element as z.ZodType, [...path, '*']);
  else if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable) {
    yield* marksIn(type, schema.unwrap() as z.ZodType, path);
  } else if (JSON.stringify(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })).includes('"personal"')) {
    const what = `${type} has a personal field in ${path.join('.')}, where it would not be found`;
    throw new Error(`${what}; personal fields stand in objects, records and arrays`);
  }
}
