import { HttpStatus } from '@nestjs/common';
import { findUnstorable } from '@starter/messaging';
import type { FastifyInstance } from 'fastify';
import { ProblemException } from './problem.js';

/** A body is passed on inside of messages, which need room around it. */
const levelsAround = 16;

/**
 * For all routes, before their own checks: what no message could carry and no table could hold is a 400 that names the field,
 * wherever in a request it stands. Otherwise it would be accepted and fail where nobody hears of it.
 */
export function refuseUnstorable(http: FastifyInstance): void {
  http.addHook('preValidation', async ({ params, query, body }) => {
    for (const [part, value] of Object.entries({ path: params, query, body })) {
      const unstorable = findUnstorable(value, levelsAround);
      if (!unstorable) continue;
      const { field, problem: message } = unstorable;
      const errors = [{ field: part === 'body' ? field : `${part} ${field}`.trim(), message }];
      throw new ProblemException(HttpStatus.BAD_REQUEST, 'The request cannot be stored; see errors.', { errors });
    }
  });
}
