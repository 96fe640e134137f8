import { decode, errorText, type MessageDefinition } from '@starter/messaging';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';

/** `<type>.v<version>.json`: one message of that version as it was published, and what it must be read as for ever. */
interface Fixture {
  readonly data: unknown;
  /** Decoded by the current version; dates as JSON writes them. Not for retired events. */
  readonly decoded?: unknown;
  /** Fingerprint of the schema that is current. */
  readonly schema?: string;
}

/**
 * Compares contracts with the golden fixtures in a folder.
 * @returns what is wrong and what to do about it, one line each; nothing when every version that was ever published has its
 * fixture and is read as recorded, and no schema has changed unnoticed
 */
export function fixtureProblems(
  definitions: readonly (MessageDefinition & { readonly retired?: true })[],
  folder: string,
): string[] {
  const names = definitions.map(({ type }) => type);
  const twice = names.filter((type, index) => names.indexOf(type) !== index);
  const known = new Set(definitions.flatMap((definition) => versionsOf(definition).map((v) => fileOf(definition, v))));
  return [
    ...twice.map((type) => `${type} is defined twice; give one of them another name`),
    ...definitions.flatMap((definition) =>
      versionsOf(definition).flatMap((version) => problemOf(definition, version, folder) ?? []),
    ),
    ...readdirSync(folder)
      .filter((file) => !known.has(file))
      .map((file) => `${file} belongs to no definition; published versions stay: define or retire its type again`),
  ];
}

/** Changes when the wire form that the schema describes does. */
export const schemaFingerprint = ({ schema }: Pick<MessageDefinition, 'schema'>): string =>
  createHash('sha256')
    .update(JSON.stringify(z.toJSONSchema(schema, { io: 'input' })))
    .digest('hex')
    .slice(0, 16);

const versionsOf = ({ version }: MessageDefinition): number[] =>
  Array.from({ length: version }, (_, index) => index + 1);

const fileOf = ({ type }: MessageDefinition, version: number): string => `${type}.v${version}.json`;

function problemOf(
  definition: MessageDefinition & { readonly retired?: true },
  version: number,
  folder: string,
): string | undefined {
  const file = fileOf(definition, version);
  if (!existsSync(join(folder, file))) return `${file} is missing; add one as {"data": …, "decoded": …}`;
  if (definition.retired) return undefined;
  const fixture = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Fixture;
  try {
    const decoded: unknown = JSON.parse(JSON.stringify(decode(definition, { data: fixture.data, version })));
    if (!isDeepStrictEqual(decoded, fixture.decoded)) {
      const seen = `${JSON.stringify(decoded)} instead of ${JSON.stringify(fixture.decoded)}`;
      return `${file} is read as ${seen}; mend the schema or the upcaster, for messages like it are stored`;
    }
  } catch (error) {
    return `${file} cannot be read any more: ${errorText(error)}`;
  }
  const fingerprint = schemaFingerprint(definition);
  if (version < definition.version || fixture.schema === fingerprint) return undefined;
  return (
    `the schema of ${definition.type} is not the one of v${version} in ${file}; raise the version, with an upcaster and a ` +
    `fixture of its own; only what was never published may be changed in place: "schema": "${fingerprint}"`
  );
}
