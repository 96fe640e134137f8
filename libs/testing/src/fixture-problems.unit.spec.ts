import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { fixtureProblems, schemaFingerprint } from './fixture-problems.js';

const schema = z.object({ given: z.string(), family: z.string() });
const options = { kind: 'event', type: 'person.named', owner: 'spec' } as const;
const upcast = { 1: ({ name }: { name: string }) => ({ given: name.split(' ')[0], family: name.split(' ')[1] }) };
const named = { ...options, version: 2, schema, upcast };
const read = { given: 'Ada', family: 'Lovelace' };
const v1 = { data: { name: 'Ada Lovelace' }, decoded: read };
const v2 = { data: read, decoded: read, schema: schemaFingerprint(named) };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fixtures-'));
  write('person.named.v1.json', v1);
  write('person.named.v2.json', v2);
});
afterEach(() => rmSync(folder, { recursive: true }));
const write = (file: string, fixture: unknown) => writeFileSync(join(folder, file), JSON.stringify(fixture));

it('has nothing to say when each version is read as recorded', () => {
  expect(fixtureProblems([named], folder)).toEqual([]);
});

it('misses the fixture of a version', () => {
  const next = { ...named, version: 3, upcast: { ...upcast, 2: (data: object) => data } };
  expect(fixtureProblems([next], folder)).toEqual([
    'person.named.v3.json is missing; add one as {"data": …, "decoded": …}',
  ]);
});

it('notices an upcaster that reads an old version otherwise, and one that is gone', () => {
  const swapped = { 1: ({ name }: { name: string }) => ({ given: name.split(' ')[1], family: name.split(' ')[0] }) };
  expect(fixtureProblems([{ ...named, upcast: swapped }], folder)).toEqual([
    expect.stringContaining('person.named.v1.json is read as {"given":"Lovelace","family":"Ada"} instead of'),
  ]);
  expect(fixtureProblems([{ ...options, version: 2, schema }], folder)).toEqual([
    expect.stringContaining(
      'person.named.v1.json cannot be read any more: UnknownVersion: person.named v1 is unknown here',
    ),
  ]);
});

it('notices a schema that changes under the same version, even where the fixture still fits', () => {
  const changed = { ...named, schema: schema.extend({ title: z.string().optional() }) };
  expect(fixtureProblems([changed], folder)).toEqual([
    expect.stringMatching(/^the schema of person.named is not the one of v2 .*raise the version.*"schema": "\w{16}"$/),
  ]);
});

it('lets nobody remove a published version, and keeps those of a retired event', () => {
  expect(fixtureProblems([], folder)).toEqual([
    expect.stringContaining('person.named.v1.json belongs to no definition'),
    expect.stringContaining('person.named.v2.json belongs to no definition'),
  ]);
  const retired = { ...options, version: 2, retired: true, schema: z.unknown() } as const;
  expect(fixtureProblems([retired], folder)).toEqual([]);
  expect(fixtureProblems([retired, named], folder)).toEqual([
    'person.named is defined twice; give one of them another name',
  ]);
});
