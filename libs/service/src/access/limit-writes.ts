import { HttpStatus } from '@nestjs/common';
import type { FastifyInstance } from 'fastify';
import { ProblemException } from '../problem.js';
import { TokenBuckets, type BucketOptions } from './token-buckets.js';

const writing = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);

/**
 * Answers 429 with `Retry-After` to who writes too much: by token, or by address where there is none. To be called after the
 * guard is installed, which says who it is.
 */
export function limitWrites(http: FastifyInstance, options: Pick<BucketOptions, 'perSecond' | 'burst'>): void {
  const buckets = new TokenBuckets({ ...options, most: 10_000 });
  http.addHook('onRequest', async (request) => {
    if (!writing.has(request.method) || !request.caller) return;
    const seconds = buckets.take(request.caller.subject);
    if (seconds === 0) return;
    const detail = `More than ${options.perSecond} requests a second that write; nothing was stored. Send it again after the seconds of Retry-After.`;
    throw new ProblemException(HttpStatus.TOO_MANY_REQUESTS, detail, { retryAfter: Math.ceil(seconds) });
  });
}
