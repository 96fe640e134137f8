import { type ArgumentsHost, Catch } from '@nestjs/common';
import { BaseRpcExceptionFilter, RpcException } from '@nestjs/microservices';
import { throwError, type Observable } from 'rxjs';
import { MessageStrategy } from './message-strategy.js';

/**
 * Lets what a handler throws reach the failure policy as it is, where no other filter takes it. Nest's own filter puts "Internal
 * server error" in its place, and then every failure looks alike: a lost connection could not be retried.
 */
@Catch()
export class KeepErrors extends BaseRpcExceptionFilter {
  override catch(exception: unknown, host: ArgumentsHost): Observable<never> {
    const type = host.getType<string>();
    if (type === 'rpc' && !(host.getArgByIndex<unknown>(2) instanceof MessageStrategy)) {
      return super.catch(exception, host) as Observable<never>;
    }
    // To Nest an unanswered request is one that no filter took, and elsewhere `undefined` says so.
    if (type !== 'rpc' && type !== 'http') return undefined as never;
    return throwError(() => causeOf(exception));
  }
}

function causeOf(exception: unknown): unknown {
  const cause = exception instanceof RpcException ? exception.getError() : undefined;
  return cause instanceof Error ? cause : exception;
}
