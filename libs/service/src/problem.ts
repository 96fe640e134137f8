import type { HttpStatus } from '@nestjs/common';
import { HttpException } from '@nestjs/common';
import { STATUS_CODES } from 'node:http';

/** RFC 9457 problem details. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail?: string;
  /** One entry for each field that does not fit. */
  readonly errors?: readonly { readonly field: string; readonly message: string }[];
}

/** Answered as `application/problem+json`. */
export class ProblemException extends HttpException {
  /** Seconds after which it is worth asking again; sent as `Retry-After`. */
  readonly retryAfter: number | undefined;
  /** What would be accepted instead; sent as `WWW-Authenticate`. */
  readonly authenticate: string | undefined;

  constructor(
    status: HttpStatus,
    detail: string,
    more: Pick<Problem, 'errors'> & { retryAfter?: number; authenticate?: string } = {},
  ) {
    const { retryAfter, authenticate, ...rest } = more;
    super({ type: 'about:blank', title: titleOf(status), status, detail, ...rest } satisfies Problem, status);
    this.retryAfter = retryAfter;
    this.authenticate = authenticate;
  }
}

export const titleOf = (status: number): string => STATUS_CODES[status] ?? 'Error';
