import type { OutboxBacklog } from '@starter/messaging';
import type { FastifyInstance } from 'fastify';
import { titleOf, type Problem } from './problem.js';

const writing = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);
/** Seconds. */
const retryAfter = 5;

/**
 * Answers 503 with `Retry-After` to requests that would write while the outbox is past its mark: before the body is read and
 * before any other work, because what is accepted now would only wait.
 */
export function refuseWhileOutboxIsHigh(http: FastifyInstance, backlog: Pick<OutboxBacklog, 'high'>): void {
  http.addHook('onRequest', (request, reply, done) => {
    if (!backlog.high || !writing.has(request.method)) return done();
    const problem: Problem = {
      type: 'about:blank',
      title: titleOf(503),
      status: 503,
      detail: 'Too much waits to be sent; nothing was stored. Send the request again after the seconds of Retry-After.',
    };
    void reply
      .status(503)
      .header('retry-after', String(retryAfter))
      .type('application/problem+json; charset=utf-8')
      .send(problem);
  });
}
