import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException } from '@nestjs/common';
import { outageOf, ValidationError, type Logger } from '@starter/messaging';
import type { FastifyReply } from 'fastify';
import { ProblemException, titleOf, type Problem } from './problem.js';

/** Seconds. */
const outageRetryAfter = 5;
const outageDetail =
  'The database cannot be used now. Send the request again after the seconds of Retry-After, with its Idempotency-Key if it has one.';

/** Every error leaves as problem+json; what is not meant for the caller is logged and not told. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(
    private readonly logger: Logger,
    /** Largest request body, in bytes. */
    private readonly bodyLimit: number,
  ) {}

  catch(thrown: unknown, host: ArgumentsHost): void {
    // Of a message: what becomes of it its failure policy says.
    if (host.getType() !== 'http') throw thrown;
    const error = this.outageProblem(thrown) ?? thrown;
    const problem = this.toProblem(error);
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    if (error instanceof ProblemException) {
      const { retryAfter, authenticate } = error;
      if (retryAfter !== undefined) void reply.header('retry-after', String(retryAfter));
      if (authenticate !== undefined) void reply.header('www-authenticate', authenticate);
    }
    void reply.status(problem.status).type('application/problem+json; charset=utf-8').send(problem);
  }

  /** Whether a commit that was under way has taken place nobody knows; the same request under the same key tells. */
  private outageProblem(error: unknown): ProblemException | undefined {
    const outage = error instanceof HttpException ? undefined : outageOf(error);
    if (!outage) return undefined;
    this.logger.warn('a request met an outage of the database', { error: outage.message });
    return new ProblemException(503, outageDetail, { retryAfter: outageRetryAfter });
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
