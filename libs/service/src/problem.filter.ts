import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException } from '@nestjs/common';
import { ValidationError, type Logger } from '@starter/messaging';
import type { FastifyReply } from 'fastify';
import { ProblemException, titleOf, type Problem } from './problem.js';

/** Every error leaves as problem+json; what is not meant for the caller is logged and not told. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(
    private readonly logger: Logger,
    /** Largest request body, in bytes. */
    private readonly bodyLimit: number,
  ) {}

  catch(error: unknown, host: ArgumentsHost): void {
    const problem = this.toProblem(error);
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    if (error instanceof ProblemException) {
      const { retryAfter, authenticate } = error;
      if (retryAfter !== undefined) void reply.header('retry-after', String(retryAfter));
      if (authenticate !== undefined) void reply.header('www-authenticate', authenticate);
    }
    void reply.status(problem.status).type('application/problem+json; charset=utf-8').send(problem);
  }

  private toProblem(error: unknown): Problem {
    if (error instanceof ProblemException) return error.getResponse() as Problem;
    if (error instanceof HttpException) {
      const status = error.getStatus();
      // Terminus carries the state of every dependency in its body.
      const body = error.getResponse();
      const details = typeof body === 'object' && 'details' in body ? body : {};
      const detail = status === 413 ? `The body is larger than ${this.bodyLimit} bytes; send less.` : error.message;
      return { ...details, type: 'about:blank', title: titleOf(status), status, detail };
    }
    if (error instanceof ValidationError) {
      return { type: 'about:blank', title: titleOf(400), status: 400, detail: error.message };
    }
    this.logger.error('a request failed', { error: error instanceof Error ? (error.stack ?? error.message) : error });
    const detail = 'The request could not be handled; nothing was stored. Try again later.';
    return { type: 'about:blank', title: titleOf(500), status: 500, detail };
  }
}
