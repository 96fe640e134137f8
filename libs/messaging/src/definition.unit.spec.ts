import { z } from 'zod';
import { decode, type MessageDefinition } from './definition.js';
import { TerminalError, UnknownVersionError, ValidationError } from './errors.js';

const named = {
  kind: 'event',
  type: 'person.named',
  version: 3,
  owner: 'spec',
  schema: z.object({ names: z.array(z.string()), at: z.iso.datetime() }),
  upcast: {
    1: ({ name }: { name: string }) => ({ name, at: '2026-01-01T00:00:00Z' }),
    2: ({ name, ...rest }: { name: string }) => ({ ...rest, names: name.split(' ') }),
  },
} satisfies MessageDefinition;

const at = '2026-02-02T00:00:00Z';
const ada = ['Ada', 'Lovelace'];

it('brings each older version to the current one, step by step', () => {
  expect(decode(named, { version: 1, data: { name: 'Ada Lovelace' } })).toEqual({
    names: ada,
    at: '2026-01-01T00:00:00Z',
  });
  expect(decode(named, { version: 2, data: { name: 'Ada Lovelace', at } })).toEqual({ names: ada, at });
  expect(decode(named, { version: 3, data: { names: ada, at } })).toEqual({ names: ada, at });
});

it('checks what the steps have made', () => {
  expect(() => decode(named, { version: 2, data: { name: 'Ada Lovelace' } })).toThrow(ValidationError);
});

it('refuses a newer version, and an older one that no step reaches', () => {
  const newer = () => decode(named, { version: 4, data: { names: ada, at } });
  expect(newer).toThrow(UnknownVersionError);
  expect(newer).toThrow('person.named v4 is unknown here, v3 is handled; deploy a release that knows it, then redrive');
  const { 2: second } = named.upcast;
  const older = () => decode({ ...named, upcast: { 2: second } }, { version: 1, data: { name: 'Ada Lovelace' } });
  expect(older).toThrow('person.named v1 is unknown here, v3 is handled; add the upcast step 1, then redrive');
});

it('names the step that throws, and leaves it to a human', () => {
  const broken = () => decode(named, { version: 2, data: { at } });
  expect(broken).toThrow(TerminalError);
  expect(broken).toThrow(/^upcasting person.named from v2 to v3 failed: .*; correct that step, then redrive$/);
});

it('keeps the message as it came, even from a step that changes its argument', () => {
  const careless = (data: { name?: string }) => {
    delete data.name;
    return { names: ada, at };
  };
  const message = { version: 2, data: { name: 'Ada Lovelace', at } };
  decode({ ...named, upcast: { 2: careless } }, message);
  expect(message.data).toEqual({ name: 'Ada Lovelace', at });
});
