import { Body, Controller, Get, Module, Post, Req, type Type } from '@nestjs/common';
import { MemoryCommandTransport, MemoryEventTransport } from '@starter/messaging';
import { createTestDatabase, type TestDatabase } from '@starter/testing';
import type { FastifyRequest } from 'fastify';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { baseSettings, readSettings } from '../configuration.js';
import { startService, type RunningService } from '../start-service.js';
import { Access } from './access.js';
import { makeToken } from './token-file.js';

let written = 0;

@Controller('things')
class ThingsController {
  @Get()
  @Access('viewer')
  who(@Req() { caller }: FastifyRequest) {
    return { subject: caller?.subject, roles: [...(caller?.roles ?? [])] };
  }

  @Post()
  @Access('client')
  write(@Body() body: unknown) {
    written += 1;
    return { body };
  }

  @Post('open')
  @Access('public')
  open() {
    return {};
  }
}

@Controller('forgotten')
class ForgottenController {
  @Get(':id')
  get() {
    return {};
  }
}

const shop = makeToken('shop', ['client']);
const prometheus = makeToken('prometheus', ['viewer']);
let database: TestDatabase;
let folder: string;
let file: string;
let service: RunningService | undefined;

beforeAll(async () => {
  [database, folder] = [await createTestDatabase(), await mkdtemp(join(tmpdir(), 'access-'))];
  file = join(folder, 'tokens');
  await writeFile(file, `# two\n\n${shop.line} # the web shop\n${prometheus.line}\n`);
});
afterEach(async () => {
  await service?.stop();
  service = undefined;
});
afterAll(async () => {
  await database.drop();
  await rm(folder, { recursive: true, force: true });
});

const start = async (settings: Record<string, string> = {}, controllers: Type[] = [ThingsController]) => {
  class SpecModule {}
  Module({ controllers })(SpecModule);
  const secrets = { IDEMPOTENCY_SECRET: randomBytes(32).toString('base64') };
  const environment = { DATABASE_URL: database.url, PORT: '0', LOG_LEVEL: 'silent', ...secrets, ...settings };
  service = await startService(
    {
      name: 'spec',
      description: 'A service of a spec.',
      defaultPort: 0,
      settings: baseSettings,
      entities: [],
      contracts: {},
      migrations: [],
      module: () => SpecModule,
    },
    {
      settings: readSettings(baseSettings, environment),
      transports: { commands: new MemoryCommandTransport(), events: new MemoryEventTransport() },
    },
  );
  return service.url;
};
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const json = { 'content-type': 'application/json' };
const answerOf = async (response: Response) => ({
  status: response.status,
  type: response.headers.get('content-type'),
  body: (await response.json()) as { detail?: string } & Record<string, unknown>,
});

it('does not start with a route that does not say who may call it, and names it', async () => {
  await expect(start({}, [ThingsController, ForgottenController])).rejects.toThrow(
    /do not say who may call them: .*GET \/forgotten\/:id.*@Access/,
  );
});

it.each(['0.0.0.0', '::', '192.0.2.1', 'example.com'])(
  'does not listen on %s while it lets everybody in',
  async (HOST) => {
    await expect(start({ HOST })).rejects.toThrow(/HOST is .*set ACCESS_TOKENS_FILE or ACCESS_JWKS_URL/);
  },
);

it('does not start without a secret for the hashes of requests where others can reach it', async () => {
  const settings = { ACCESS_TOKENS_FILE: file, IDEMPOTENCY_SECRET: '' };
  await expect(start(settings)).rejects.toThrow(/IDEMPOTENCY_SECRET is missing: .*openssl rand -base64 32/);
});

it('answers 401 and 403 with what to do before it reads the body', async () => {
  const url = `${await start({ ACCESS_TOKENS_FILE: file })}/things`;
  const unread = { method: 'POST', headers: json, body: '{"half":' };
  expect(await answerOf(await fetch(url, unread))).toMatchObject({
    status: 401,
    type: 'application/problem+json; charset=utf-8',
    body: { status: 401, detail: expect.stringMatching(/Authorization: Bearer/) },
  });
  const response = await fetch(url, { ...unread, headers: { ...json, ...bearer(prometheus.token) } });
  expect(response.headers.get('www-authenticate')).toBe('Bearer error="insufficient_scope"');
  expect(await answerOf(response)).toMatchObject({
    status: 403,
    body: { detail: expect.stringMatching(/role client/) },
  });
  expect(await (await fetch(url, { headers: bearer(prometheus.token) })).json()).toEqual({
    subject: 'prometheus',
    roles: ['viewer'],
  });
});

it.each([
  ['no scheme', (token: string) => token],
  ['another scheme', (token: string) => `Basic ${token}`],
  ['nothing', () => 'Bearer '],
  ['something else behind it', (token: string) => `Bearer ${token} ${token}`],
  ['its digest', () => `Bearer ${prometheus.line.split(' ')[2]}`],
  ['half of it', (token: string) => `Bearer ${token.slice(0, 20)}`],
])('answers 401 to a token with %s', async (_, authorization) => {
  const url = await start({ ACCESS_TOKENS_FILE: file });
  const headers = { authorization: authorization(prometheus.token) };
  expect((await fetch(`${url}/things`, { headers })).status).toBe(401);
});

it.each([
  ['', /holds no token/],
  ['shop client', /line 1 is not of the form/],
  [`# comment\n${shop.line.replace(' client ', ' root ')}`, /line 2 is not of the form/],
  [undefined, /ENOENT/],
])('does not start with %j as its file of tokens', async (text, problem) => {
  const path = join(folder, `wrong-${String(text).length}`);
  if (text !== undefined) await writeFile(path, text);
  await expect(start({ ACCESS_TOKENS_FILE: path })).rejects.toThrow(problem);
});

it('refuses tokens that everybody knows outside a demo', async () => {
  const ACCESS_TOKENS_FILE = 'deploy/access/example-tokens';
  await expect(start({ ACCESS_TOKENS_FILE })).rejects.toThrow(
    /everybody knows the token of example-client, example-viewer/,
  );
  const url = await start({ ACCESS_TOKENS_FILE, EXAMPLE_SECRETS: 'allowed' });
  expect((await fetch(`${url}/things`, { headers: bearer('example-viewer') })).status).toBe(200);
});

it('without access configured answers this machine under its own name only', async () => {
  const url = await start();
  expect((await fetch(`${url}/things`)).status).toBe(200);
  const statusFor = (host: string) =>
    new Promise((resolve, reject) => {
      httpRequest(`${url}/things`, { headers: { host } }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .once('error', reject)
        .end();
    });
  for (const host of ['localhost:3000', '127.0.0.1', '[::1]:3000'])
    expect([host, await statusFor(host)]).toEqual([host, 200]);
  for (const host of ['evil.example', 'localhost.evil.example:80', '127.0.0.1.evil.example', '10.0.0.1']) {
    expect([host, await statusFor(host)]).toEqual([host, 421]);
  }
});

it.each([
  ['a form', 'application/x-www-form-urlencoded', 'name=a'],
  ['a form with a file', 'multipart/form-data; boundary=x', '--x--'],
  ['text', 'text/plain', '{"n":1}'],
  ['text that mentions JSON', 'text/plain; application/json', '{"n":1}'],
  ['two types', 'text/plain, application/json', '{"n":1}'],
  ['a form that mentions JSON', 'application/x-www-form-urlencoded; a=application/json', '{"n":1}'],
  ['another kind of JSON', 'application/merge-patch+json', '{"n":1}'],
  ['a longer name', 'application/jsonp', '{"n":1}'],
  ['another charset', 'application/json; charset=utf-16', '{"n":1}'],
  ['no charset at all', 'application/json; charset=', '{"n":1}'],
  ['another parameter', 'application/json; boundary=x', '{"n":1}'],
  ['no type', '', '{"n":1}'],
  ['no type and no body', '', ''],
])('answers 415 to a body that is %s', async (_, type, body) => {
  const url = await start();
  const before = written;
  // A view of bytes gets no content type from `fetch` itself.
  const init = { method: 'POST', body: new TextEncoder().encode(body), headers: type ? { 'content-type': type } : {} };
  expect(await answerOf(await fetch(`${url}/things`, init))).toMatchObject({
    status: 415,
    body: { detail: expect.stringMatching(/Content-Type: application\/json/) },
  });
  expect(written).toBe(before);
});

it.each(['application/json', 'Application/JSON; charset=UTF-8', 'application/json;charset="utf-8"'])(
  'takes a body of the type %s',
  async (type) => {
    const url = await start();
    const response = await fetch(`${url}/things`, {
      method: 'POST',
      body: '{"n":1}',
      headers: { 'content-type': type },
    });
    expect(await answerOf(response)).toMatchObject({ status: 201, body: { body: { n: 1 } } });
  },
);

it('answers 429 with Retry-After to who writes too much, and to nobody else', async () => {
  const limits = { CLIENT_WRITES_PER_SECOND: '0.01', CLIENT_WRITES_BURST: '3', TRUSTED_PROXIES: '127.0.0.1' };
  const url = await start({ ACCESS_TOKENS_FILE: file, ...limits });
  const post = (path: string, headers: Record<string, string>) =>
    fetch(url + path, { method: 'POST', headers: { ...json, ...headers }, body: '{}' });
  const statuses = [];
  for (let n = 0; n < 4; n++) statuses.push((await post('/things', bearer(shop.token))).status);
  expect(statuses).toEqual([201, 201, 201, 429]);
  const refused = await post('/things', bearer(shop.token));
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(90);
  expect(await answerOf(refused)).toMatchObject({
    status: 429,
    body: { detail: expect.stringMatching(/nothing was stored/) },
  });
  // By address where nobody says who they are; of a proxy that is trusted, the address of its client.
  const from = (address: string) => post('/things/open', { 'x-forwarded-for': address });
  const many = [];
  for (let n = 0; n < 4; n++) many.push((await from('192.0.2.1')).status);
  expect(many).toEqual([201, 201, 201, 429]);
  expect((await from('192.0.2.2')).status).toBe(201);
  for (let n = 0; n < 5; n++)
    expect((await fetch(`${url}/things`, { headers: bearer(prometheus.token) })).status).toBe(200);
});

describe('JWTs', () => {
  let provider: Server;
  let keys: Awaited<ReturnType<typeof generateKeyPair>>;
  let others: typeof keys;
  let settings: Record<string, string>;

  beforeAll(async () => {
    [keys, others] = [await generateKeyPair('ES256'), await generateKeyPair('ES256')];
    const published = { keys: [{ ...(await exportJWK(keys.publicKey)), kid: 'one', alg: 'ES256' }] };
    provider = createServer((_, response) => response.end(JSON.stringify(published)));
    await new Promise<void>((resolve) => provider.listen(0, '127.0.0.1', resolve));
    settings = {
      ACCESS_JWKS_URL: `http://127.0.0.1:${(provider.address() as AddressInfo).port}/jwks`,
      ACCESS_ISSUER: 'https://issuer.example',
      ACCESS_AUDIENCE: 'starter',
    };
  });
  afterAll(() => provider.close());

  const signed = (claims: Record<string, unknown> = {}, { key = keys.privateKey, header = {} } = {}) =>
    new SignJWT({
      iss: 'https://issuer.example',
      aud: 'starter',
      sub: 'ada',
      exp: Math.floor(Date.now() / 1_000) + 300,
      roles: ['viewer', 'unknown'],
      ...claims,
    })
      .setProtectedHeader({ alg: 'ES256', kid: 'one', ...header })
      .sign(key);
  const statusOf = async (url: string, token: string) =>
    (await fetch(`${url}/things`, { headers: bearer(token) })).status;

  it('are checked against the published keys; what is wrong with one is a 401', async () => {
    const url = await start({ ...settings, ACCESS_TOKENS_FILE: file });
    const response = await fetch(`${url}/things`, { headers: bearer(await signed()) });
    expect(await answerOf(response)).toMatchObject({ status: 200, body: { subject: 'ada', roles: ['viewer'] } });
    // The file is for the others.
    expect(await statusOf(url, prometheus.token)).toBe(200);
    expect(await statusOf(url, await signed({ roles: ['client'] }))).toBe(403);
    expect(await statusOf(url, await signed({ roles: 'client operator' }))).toBe(200);
    const [head, , signature] = (await signed()).split('.');
    const forged = Buffer.from(JSON.stringify({ sub: 'ada', roles: ['operator'] })).toString('base64url');
    const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${forged}.`;
    const wrong = {
      expired: await signed({ exp: 1 }),
      'of another issuer': await signed({ iss: 'https://evil.example' }),
      'for another audience': await signed({ aud: 'others' }),
      'without an end': await signed({ exp: undefined }),
      'without a subject': await signed({ sub: undefined }),
      'not valid yet': await signed({ nbf: Math.floor(Date.now() / 1_000) + 3_600 }),
      'signed by somebody else': await signed({}, { key: others.privateKey }),
      'with a key that is not published': await signed({}, { key: others.privateKey, header: { kid: 'two' } }),
      changed: `${head}.${forged}.${signature}`,
      'signed by nobody': none,
      'signed with a secret': await new SignJWT({ roles: ['operator'] })
        .setProtectedHeader({ alg: 'HS256', kid: 'one' })
        .sign(new TextEncoder().encode('x'.repeat(32))),
      'no JWT': 'a.b.c',
    };
    for (const [what, token] of Object.entries(wrong)) expect([what, await statusOf(url, token)]).toEqual([what, 401]);
  });

  it('have their roles where the setting says', async () => {
    const url = await start({ ...settings, ACCESS_ROLE_CLAIM: 'realm_access.roles' });
    expect(await statusOf(url, await signed())).toBe(403);
    expect(await statusOf(url, await signed({ realm_access: { roles: ['viewer'] } }))).toBe(200);
    expect(await statusOf(url, await signed({ realm_access: null }))).toBe(403);
  });

  it('are 503 with Retry-After while the keys cannot be had', async () => {
    const url = await start({ ...settings, ACCESS_JWKS_URL: 'http://127.0.0.1:1/jwks' });
    const response = await fetch(`${url}/things`, { headers: bearer(await signed()) });
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5']);
  });

  it('need all of their settings', async () => {
    await expect(start({ ACCESS_ISSUER: 'https://issuer.example' })).rejects.toThrow(/set all three, or none/);
  });
});
