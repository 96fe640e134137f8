import { Body, Controller, Headers, Module, Param, Post, Query } from '@nestjs/common';
import { MemoryCommandBroker, MemoryCommandTransport, MemoryEventTransport } from '@starter/messaging';
import { createTestDatabase, type TestDatabase } from '@starter/testing';
import { z } from 'zod';
import { Access } from './access/access.js';
import { baseSettings, readSettings } from './configuration.js';
import { idempotencyKeyOf } from './idempotency-key.js';
import { SchemaPipe } from './schema.pipe.js';
import { startService, type RunningService } from './start-service.js';

const note = new SchemaPipe(z.record(z.string(), z.unknown()));
const kept: unknown[] = [];

@Controller('notes')
class NoteController {
  @Post(':key')
  @Access('public')
  keep(
    @Param('key') key: string,
    @Query() query: object,
    @Body(note) body: unknown,
    @Headers('idempotency-key') header?: string,
  ): object {
    kept.push({ key, query, body, header: idempotencyKeyOf(header) });
    return {};
  }
}

@Module({ controllers: [NoteController] })
class SpecModule {}

let database: TestDatabase;
let service: RunningService;

beforeAll(async () => {
  database = await createTestDatabase();
  const environment = { DATABASE_URL: database.url, HOST: '127.0.0.1', PORT: '0', LOG_LEVEL: 'silent' };
  const transports = {
    commands: new MemoryCommandTransport(new MemoryCommandBroker()),
    events: new MemoryEventTransport(),
  };
  service = await startService(
    {
      ...{ name: 'spec', description: 'A service of a spec.', defaultPort: 0, settings: baseSettings },
      ...{ entities: [], contracts: {}, migrations: [], module: () => SpecModule, bodyLimit: 1_000_000 },
    },
    { settings: readSettings(baseSettings, environment), transports },
  );
});
afterAll(async () => {
  await service.stop();
  await database.drop();
});

const post = async (url: string, body: string, headers: Record<string, string> = {}) => {
  const response = await fetch(url, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  });
  return {
    status: response.status,
    problem: (await response.json()) as { errors?: { field: string; message: string }[] },
  };
};
const nested = (depth: number): string => '{"a":'.repeat(depth) + '1' + '}'.repeat(depth);

it.each([
  ['U+0000 in a text of the body', '/a', String.raw`{"x":{"name":["a\u0000"]}}`, 'x.name.0', 'U+0000'],
  ['half a surrogate pair in the body', '/a', String.raw`{"name":"\ud800"}`, 'name', 'surrogate'],
  ['U+0000 in a name of the body', '/a', String.raw`{"na\u0000me":1}`, 'na\u{FFFD}me', 'U+0000'],
  ['a body of 100 000 levels', '/a', nested(100_000), 'a.a.a', 'too deep'],
  ['U+0000 in the path', '/a%00b', '{}', 'path key', 'U+0000'],
  ['U+0000 in the query', '/a?type=x%00', '{}', 'query type', 'U+0000'],
])('refuses %s with the field and the remedy', async (_, path, body, field, message) => {
  const { status, problem } = await post(`${service.url}/notes${path}`, body);
  expect(status).toBe(400);
  expect(problem.errors?.[0]?.field).toMatch(new RegExp(`^${field}`));
  expect(problem.errors?.[0]?.message).toContain(message);
  expect(kept).toEqual([]);
});

it.each([
  ['JSON that is none', '/notes/a', '{oops', {}, 400],
  ['a path that is no text', '/notes/%ff', '{}', {}, 400],
  ['an Idempotency-Key that is too long', '/notes/a', '{}', { 'idempotency-key': 'x'.repeat(256) }, 400],
  ['a body that is too large', '/notes/a', `{"a":"${'x'.repeat(1_000_000)}"}`, {}, 413],
])('refuses %s', async (_, path, body, headers, status) => {
  expect((await post(`${service.url}${path}`, body, headers)).status).toBe(status);
  expect(kept).toEqual([]);
});

it('takes what can be stored: emoji, escapes and forty levels', async () => {
  const { status } = await post(
    `${service.url}/notes/k%C3%A4se`,
    String.raw`{"name":"😀 \ud83d\ude00 \\u0000","x":${nested(40)}}`,
  );
  expect(status).toBe(201);
  expect(kept).toMatchObject([{ key: 'käse', body: { name: '😀 😀 \\u0000' } }]);
});
