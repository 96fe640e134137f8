import { HttpStatus } from '@nestjs/common';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ProblemException } from './problem.js';

const json = /^application\/json\s*(;\s*charset\s*=\s*("utf-8"|utf-8)\s*)?$/i;
const withoutBody = new Set(['GET', 'HEAD']);
const alwaysWithBody = new Set(['POST', 'PUT', 'PATCH']);

/**
 * Answers 415 to everything but JSON, before the body is read. What a form of a page of somebody else can send, or a script
 * without asking, is never JSON by its content type; so a request without a type is none either, even if it has no body.
 */
export function acceptOnlyJson(http: FastifyInstance): void {
  http.addHook('onRequest', async (request) => {
    if (withoutBody.has(request.method) || json.test(request.headers['content-type'] ?? '')) return;
    if (!alwaysWithBody.has(request.method) && !hasBody(request)) return;
    const detail = 'Send JSON in UTF-8, with the header Content-Type: application/json.';
    throw new ProblemException(HttpStatus.UNSUPPORTED_MEDIA_TYPE, detail);
  });
}

const hasBody = ({ headers }: FastifyRequest): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
