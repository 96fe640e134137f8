import { HttpStatus } from '@nestjs/common';
import type { Logger } from '@starter/messaging';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { IncomingMessage } from 'node:http';
import { ProblemException } from '../problem.js';
import { admits, roles, type Caller, type RouteAccess } from './access.js';
import type { Credentials } from './credentials.js';
import { isLoopback } from './loopback.js';

export interface RouteGuardOptions {
  /** Undefined: nobody has to say who they are, and only this machine is answered. */
  readonly credentials: Credentials | undefined;
  readonly logger: Logger;
  /** Whether a request came in on MANAGEMENT_PORT. */
  readonly isManagement: (request: IncomingMessage) => boolean;
}

export interface Route extends RouteAccess {
  readonly method: string;
  readonly url: string;
}

/** The description of the API, which `@nestjs/swagger` adds. */
const docs = /^\/docs([/-]|$)/;
/** Seconds. */
const retryAfter = 5;

/**
 * Lets nobody in who may not call a route. It works on the routes that Fastify has, whoever added them, and before the body of
 * a request is read.
 */
export class RouteGuard {
  /** All that the service answers. */
  readonly routes: Route[] = [];
  private readonly undeclared: string[] = [];

  constructor(private readonly options: RouteGuardOptions) {}

  /** To be called before any route is added. */
  install(http: FastifyInstance): void {
    http.decorateRequest('caller', null);
    http.addHook('onRoute', (route) => {
      const access =
        route.config?.access ?? (docs.test(route.url) ? { audience: 'public', management: true } : undefined);
      const methods = [route.method].flat();
      if (!access) return void this.undeclared.push(`${methods.join(', ')} ${route.url}`);
      route.config = { ...route.config, access };
      this.routes.push(...methods.map((method) => ({ method, url: route.url, ...access })));
    });
    http.addHook('onRequest', async (request, reply) => {
      if (request.is404) return;
      const { access } = request.routeOptions.config;
      if (!access || access.management !== this.options.isManagement(request.raw)) return reply.callNotFound();
      request.caller = await this.admit(request, access);
    });
  }

  /** @throws Error that names the routes that do not say who may call them */
  check(): void {
    if (this.undeclared.length === 0) return;
    const remedy = `put @Access('client') on each, or another of public, ${roles.join(', ')} (docs/access.md)`;
    throw new Error(`these routes do not say who may call them: ${this.undeclared.join('; ')}: ${remedy}`);
  }

  private async admit(request: FastifyRequest, { audience }: RouteAccess): Promise<Caller> {
    const { credentials } = this.options;
    if (!credentials) return anybody(request);
    if (audience === 'public') return { subject: request.ip, roles: new Set() };
    const caller = await this.callerOf(request, credentials);
    if (admits(audience, caller)) return caller;
    const detail = `${caller.subject} has not the role ${audience}; use a token that has it.`;
    throw new ProblemException(HttpStatus.FORBIDDEN, detail, { authenticate: 'Bearer error="insufficient_scope"' });
  }

  private async callerOf({ headers }: FastifyRequest, credentials: Credentials): Promise<Caller> {
    const [, token] = /^Bearer +([\w.~+/-]+=*)$/i.exec(headers.authorization ?? '') ?? [];
    if (token === undefined) {
      const detail = 'Send a token in the header: Authorization: Bearer TOKEN.';
      throw new ProblemException(HttpStatus.UNAUTHORIZED, detail, { authenticate: 'Bearer' });
    }
    const caller = await credentials.callerOf(token).catch((error: unknown) => {
      this.options.logger.error('tokens cannot be checked: look whether ACCESS_JWKS_URL can be reached', { error });
      const detail = 'The token cannot be checked at the moment; send the request again later.';
      throw new ProblemException(HttpStatus.SERVICE_UNAVAILABLE, detail, { retryAfter });
    });
    if (caller) return caller;
    const detail = 'The token is unknown, expired or not meant for this service; get a new one.';
    throw new ProblemException(HttpStatus.UNAUTHORIZED, detail, { authenticate: 'Bearer error="invalid_token"' });
  }
}

/**
 * Where nobody has to say who they are, who sits at this machine may do everything. A page in their browser may not: a name
 * that an attacker points to this machine would make it a page of this service.
 */
function anybody(request: FastifyRequest): Caller {
  // As it was sent: no proxy is believed here.
  const host = (request.headers.host ?? '').replace(/:\d+$/, '');
  if (!isLoopback(host)) {
    const detail = `Without access configured this service is called localhost and not ${host}; see docs/access.md.`;
    throw new ProblemException(HttpStatus.MISDIRECTED, detail);
  }
  return { subject: request.ip, roles: new Set(roles) };
}
