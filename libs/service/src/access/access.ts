import { applyDecorators } from '@nestjs/common';
import { RouteConfig } from '@nestjs/platform-fastify';
import { ApiBearerAuth, ApiExtension, ApiResponse } from '@nestjs/swagger';

/** What a token can be good for. `operator` includes `viewer`; `client` stands apart, a token may have several. */
export const roles = ['client', 'viewer', 'operator'] as const;
export type Role = (typeof roles)[number];

/**
 * Who may call a route: `public` is everybody; `client` the product's own callers; `viewer` who looks how the system is doing,
 * and sees no personal data; `operator` who changes something for everybody, or sees all.
 */
export type Audience = 'public' | Role;

export interface Caller {
  /** Name of the token, or subject of the JWT; an address where nobody has to say who they are. */
  readonly subject: string;
  readonly roles: ReadonlySet<Role>;
}

export interface RouteAccess {
  readonly audience: Audience;
  /** Only on MANAGEMENT_PORT. Default: only on PORT. */
  readonly management: boolean;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: RouteAccess;
  }
  interface FastifyRequest {
    caller: Caller | null;
  }
}

/** Says who may call a route; a service with a route that does not say it does not start. */
export function Access(audience: Audience, { management = false }: Partial<RouteAccess> = {}): MethodDecorator {
  return applyDecorators(
    RouteConfig({ access: { audience, management } satisfies RouteAccess }),
    ApiExtension('x-access', audience),
    ...(audience === 'public' ? [] : documented(audience)),
  );
}

const documented = (audience: Role): MethodDecorator[] => [
  ApiBearerAuth(),
  ApiResponse({ status: 401, description: 'Without a valid token.' }),
  ApiResponse({ status: 403, description: `The token has not the role ${audience}.` }),
];

export const admits = (audience: Role, { roles: held }: Pick<Caller, 'roles'>): boolean =>
  held.has(audience) || (audience === 'viewer' && held.has('operator'));
