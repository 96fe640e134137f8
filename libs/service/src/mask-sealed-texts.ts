import { maskSealed } from '@starter/messaging';
import type { FastifyInstance } from 'fastify';

/**
 * For all routes, whatever they answer with: a sealed text is there to be passed on between services, and not to be looked at. Who
 * had it could have it sent to somebody. Streams go out as they are; those of server-sent events are masked where they are made.
 */
export function maskSealedTexts(http: FastifyInstance): void {
  http.addHook('onSend', async (_request, _reply, payload) =>
    typeof payload === 'string' ? maskSealed(payload) : payload,
  );
}
