import { type MessageHandler, Server } from '@nestjs/microservices';
import { isObservable, lastValueFrom } from 'rxjs';
import { declaredIn, type DeclaredHandler, type HandlerCall } from './handler-decorator.js';

/**
 * Nest strategy that consumes nothing itself: it registers each decorated method with what consumes here, the inbox, the
 * retries and the order included. It has to listen before the application starts.
 */
export abstract class MessageStrategy<Target> extends Server {
  override readonly propagatesEventHandlerErrors = true;
  private readonly handlers: { readonly handler: DeclaredHandler<Target>; readonly call: HandlerCall }[] = [];

  /** What the methods are registered with. */
  protected abstract readonly target: Target;

  /** @throws Error for a pattern that names no transport, and so would be handled by every strategy */
  override addHandler(
    pattern: unknown,
    callback: MessageHandler,
    _isEventHandler?: boolean,
    extras: Record<string, unknown> = {},
  ): void {
    const handler = declaredIn<Target>(extras);
    if (!handler) {
      const what = `the pattern ${JSON.stringify(pattern)} is for every transport, and this one takes contracts only`;
      throw new Error(`${what}: name its transport, or use @OnCommand, @OnEvent or @OnTask with a contract`);
    }
    this.handlers.push({ handler, call: (payload, context) => this.call(callback, payload, context) });
  }

  listen(callback: (error?: unknown) => void): void {
    try {
      for (const { handler, call } of this.handlers) handler.bind(this.target, call, handler.place);
      callback();
    } catch (error) {
      callback(error);
    }
  }

  close(): void {
    // What consumes stops with the application.
  }

  on(): never {
    throw new Error('this strategy has no events: ask Messaging');
  }

  unwrap<T>(): T {
    return this.target as unknown as T;
  }

  private async call(callback: MessageHandler, payload: unknown, context: object): Promise<unknown> {
    // The third argument tells `KeepErrors` whose message it is.
    const result = await (callback as (...args: readonly unknown[]) => Promise<unknown>)(payload, context, this);
    // It is one when there is an interceptor.
    return isObservable(result) ? lastValueFrom(result, { defaultValue: undefined }) : result;
  }
}
