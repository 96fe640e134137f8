import { Catch, type RpcExceptionFilter } from '@nestjs/common';
import { RpcException } from '@nestjs/microservices';
import { throwError, type Observable } from 'rxjs';

/**
 * Lets what a handler throws reach the server as it is. Nest's own filter puts "Internal server error" in its place, and
 * then every failure looks alike: a lost connection could not be retried, nor an invalid message discarded.
 *
 *     app.useGlobalFilters(new KeepErrors())                  // or
 *     { provide: APP_FILTER, useClass: KeepErrors }
 */
@Catch()
export class KeepErrors implements RpcExceptionFilter {
  catch(exception: unknown): Observable<never> {
    return throwError(() => (exception instanceof RpcException ? exception.getError() : exception));
  }
}

/** What Nest's own exception filter leaves of an error. */
export function isMasked(error: unknown): boolean {
  const { status, message } = (error ?? {}) as { readonly status?: unknown; readonly message?: unknown };
  return !(error instanceof Error) && status === 'error' && message === 'Internal server error';
}
