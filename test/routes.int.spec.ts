import { emailService } from '@starter/email-service';
import { orchestrator } from '@starter/orchestrator';
import { makeToken, RouteGuard, type Role, type Route, type RunningService } from '@starter/service';
import { ServiceBackends, testPersonalDataKey } from '@starter/testing';
import { userService } from '@starter/user-service';
import { METHOD_METADATA, PATH_METADATA } from '@nestjs/common/constants.js';
import { RequestMethod } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const definitions = { userService, emailService, orchestrator };
const tokens = {
  client: makeToken('shop', ['client']),
  viewer: makeToken('prometheus', ['viewer']),
  operator: makeToken('somebody', ['operator']),
};
/** Who is not enough. */
const tooLittle: Readonly<Record<Role, readonly Role[]>> = {
  client: ['viewer', 'operator'],
  viewer: ['client'],
  operator: ['client', 'viewer'],
};

describe.each(Object.keys(definitions) as (keyof typeof definitions)[])('the routes of %s', (name) => {
  let folder: string;
  let backends: ServiceBackends;
  let service: RunningService;
  let routes: readonly Route[];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'routes-'));
    const file = join(folder, 'tokens');
    await writeFile(
      file,
      Object.values(tokens)
        .map(({ line }) => `${line}\n`)
        .join(''),
    );
    backends = await ServiceBackends.open();
    const secrets = { PERSONAL_DATA_KEY: testPersonalDataKey, IDEMPOTENCY_SECRET: testPersonalDataKey };
    const settings = { HOST: '127.0.0.1', ACCESS_TOKENS_FILE: file, ...secrets };
    service = await backends.start(definitions[name] as typeof userService, settings);
    ({ routes } = service.app.get(RouteGuard));
  });
  afterAll(async () => {
    await service?.stop();
    await backends?.close();
    await rm(folder, { recursive: true, force: true });
  });

  /** Those of the controllers, as Nest knows them. */
  const controllerRoutes = (): string[] =>
    [...service.app.get(ModulesContainer).values()]
      .flatMap(({ controllers }) => [...controllers.values()])
      .flatMap(({ metatype }) => {
        const prefix = Reflect.getMetadata(PATH_METADATA, metatype as object) as string;
        const prototype = (metatype as { prototype: Record<string, unknown> }).prototype;
        return Object.getOwnPropertyNames(prototype)
          .map((method) => prototype[method] as object)
          .filter((handler) => typeof handler === 'function' && Reflect.hasMetadata(METHOD_METADATA, handler))
          .map((handler) => {
            const path = Reflect.getMetadata(PATH_METADATA, handler) as string;
            const method = RequestMethod[Reflect.getMetadata(METHOD_METADATA, handler) as RequestMethod];
            return `${method} /${[prefix, path].filter((part) => part !== '/').join('/')}`;
          });
      });
  const call = async ({ method, url, management }: Route, token?: string) => {
    const path = url.replace(/:\w+/g, randomUUID()).replace('*', '');
    const response = await fetch((management ? service.managementUrl : service.url) + path, {
      method,
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    });
    await response.body?.cancel();
    const [type, authenticate] = ['content-type', 'www-authenticate'].map((header) => response.headers.get(header));
    return { status: response.status, type, authenticate };
  };
  const problem = 'application/problem+json; charset=utf-8';
  const at = ({ method, url }: Route) => `${method} ${url}`;
  const guarded = () =>
    routes.flatMap((route) => (route.audience === 'public' ? [] : [{ ...route, audience: route.audience }]));

  it('are all known to the guard, those of the controllers among them', () => {
    const known = routes.map(at);
    expect(controllerRoutes().length).toBeGreaterThanOrEqual(6);
    expect(controllerRoutes().filter((route) => !known.includes(route))).toEqual([]);
    // Beside the controllers there is only the description of the API, and HEAD.
    const others = routes.filter((route) => !controllerRoutes().includes(at(route)) && route.method !== 'HEAD');
    expect(others.filter(({ url }) => !url.startsWith('/docs'))).toEqual([]);
  });

  it('answer 401 without a token and with one that is none', async () => {
    for (const route of guarded()) {
      const who = { route: at(route) };
      const missing = { status: 401, type: problem, authenticate: 'Bearer' };
      const wrong = { ...missing, authenticate: 'Bearer error="invalid_token"' };
      expect({ ...who, ...(await call(route)) }).toEqual({ ...who, ...missing });
      expect({ ...who, ...(await call(route, 'x'.repeat(43))) }).toEqual({ ...who, ...wrong });
      expect({ ...who, ...(await call(route, 'a.b.c')) }).toEqual({ ...who, ...wrong });
    }
  });

  it('answer 403 to a token that has not the role, and something else to one that has', async () => {
    for (const route of guarded()) {
      for (const role of tooLittle[route.audience]) {
        const expected = { route: at(route), role, status: 403, type: problem };
        expect({ route: at(route), role, ...(await call(route, tokens[role].token)) }).toMatchObject(expected);
      }
      const { status } = await call(route, tokens[route.audience].token);
      expect([at(route), [401, 403].includes(status)]).toEqual([at(route), false]);
    }
  });

  it('let an operator look at what a viewer may', async () => {
    for (const route of guarded().filter(({ audience }) => audience === 'viewer')) {
      expect([401, 403]).not.toContain((await call(route, tokens.operator.token)).status);
    }
  });

  it('never fail because of what no id, query or body can be', async () => {
    const ids = ['%00', '%ED%A0%80', '%FF', 'a%0Ab', '__proto__', 'x'.repeat(10_000), '%E2%80%AE', '..%2F..%2Fetc'];
    const queries = ['%00', '%ED%A0%80', '1e400', '-1', 'x'.repeat(10_000), '__proto__'];
    const names = ['limit', 'after', 'type', 'state', 'timeout', 'atLeastVersion', '__proto__', 'a[b]', '%00'];
    const bodies = [
      String.raw`{"__proto__":{"a":1},"reason":"\ud800"}`,
      `{"a":${'['.repeat(10_000)}${']'.repeat(10_000)}}`,
      '{"reason":1e400,"reason":-1e400}',
      'null',
      '',
    ];
    const statusOf = async ({ method, management, audience }: Route, path: string, body?: string) => {
      const { token } = tokens[audience === 'public' ? 'client' : audience];
      const response = await fetch((management ? service.managementUrl : service.url) + path, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body }),
      });
      await response.body?.cancel();
      return response.status;
    };
    const failed: unknown[] = [];
    for (const route of routes.filter(({ url }) => !/health|docs/.test(url))) {
      const at = (id: string) => route.url.replace(/:\w+/g, id).replace('*', '');
      const tries: [path: string, body?: string][] = [
        ...(route.url.includes(':') ? ids.map((id): [string] => [at(id)]) : []),
        ...(route.method === 'GET'
          ? names.flatMap((name) => queries.map((value): [string] => [`${at(randomUUID())}?${name}=${value}`]))
          : bodies.map((body): [string, string] => [at(randomUUID()), body])),
      ];
      for (const [path, body] of tries) {
        const status = await statusOf(route, path, route.method === 'HEAD' ? undefined : body);
        if (status >= 500) failed.push([route.method, path.slice(0, 100), body?.slice(0, 100), status]);
      }
    }
    expect(failed).toEqual([]);
  });

  it('answer at their own port only', async () => {
    for (const route of routes) {
      const { status } = await call({ ...route, management: !route.management }, tokens.operator.token);
      expect([at(route), status]).toEqual([at(route), 404]);
    }
    expect(routes.filter(({ url, management }) => /^\/(health|metrics|docs|tasks)/.test(url) !== management)).toEqual(
      [],
    );
  });

  it('stand in the OpenAPI document with who may call them', async () => {
    const document = (await (await fetch(`${service.managementUrl}/docs-json`)).json()) as {
      components: object;
      paths: Record<string, Record<string, { security?: object[]; responses: object } & Record<string, unknown>>>;
    };
    expect(document.components).toMatchObject({ securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } });
    const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ id: `${method.toUpperCase()} ${path}`, operation })),
    );
    for (const { id, operation } of operations) {
      const route = routes.find((one) => at(one).replace(/:(\w+)/g, '{$1}') === id);
      const open = route?.audience === 'public';
      expect([id, operation['x-access']]).toEqual([id, route?.audience]);
      expect([id, operation.security]).toEqual([id, open ? undefined : [{ bearer: [] }]]);
      if (!open) expect(operation.responses).toMatchObject({ 401: {}, 403: {} });
    }
    expect(operations.length).toBeGreaterThanOrEqual(5);
  });
});
