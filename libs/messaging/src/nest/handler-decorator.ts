import { SetMetadata } from '@nestjs/common';
import { ROUTE_ARGS_METADATA } from '@nestjs/common/internal';
import { Ctx } from '@nestjs/microservices';
import type { MessageDefinition } from '../definition.js';

/**
 * For a method whose first parameter is the context, or is decorated with `@Payload()` and takes the data. Any other parameter
 * needs a decorator of its own, as everywhere in Nest.
 */
export type HandlerDecorator<Context, Payload, Result> = <
  Method extends
    | ((context: Context, ...more: never[]) => Result | Promise<Result>)
    | ((payload: Payload, ...more: never[]) => Result | Promise<Result>),
>(
  controller: object,
  method: string | symbol,
  descriptor: TypedPropertyDescriptor<Method>,
) => void;

/** Calls the method with everything that Nest puts around it. The payload is for `@Payload()`, the context for `@Ctx()`. */
export type HandlerCall = (payload: unknown, context: object) => Promise<unknown>;

/** What a decorator knows of its method. */
export interface DeclaredHandler<Target> {
  readonly type: string;
  /** `EmailSender.send`, for logs and errors. */
  readonly place: string;
  /** Registers it, so that `call` is made for each of its messages. */
  readonly bind: (target: Target, call: HandlerCall, place: string) => void;
}

/** Key of the metadata of the method, and of the extras of its pattern. */
const declared = 'messaging:handler';

/**
 * @param pattern of `@nestjs/microservices`, with the extras that it is to have
 * @throws Error when the method handles another message already
 */
export function declareHandler<Target, Context, Payload, Result>(
  { type }: Pick<MessageDefinition, 'type'>,
  pattern: (extras: Record<string, unknown>) => MethodDecorator,
  bind: DeclaredHandler<Target>['bind'],
): HandlerDecorator<Context, Payload, Result> {
  return (controller, method, descriptor) => {
    const place = `${controller.constructor.name}.${String(method)}`;
    const other = declaredOn(descriptor.value);
    if (other) throw new Error(`${place} handles ${other.type} and ${type}: write a method for each of them`);
    const handler: DeclaredHandler<Target> = { type, place, bind };
    SetMetadata(declared, handler)(controller, method, descriptor);
    pattern({ [declared]: handler })(controller, method, descriptor);
    // Without any decorator Nest would give the payload to the first parameter.
    const parameters: unknown = Reflect.getMetadata(ROUTE_ARGS_METADATA, controller.constructor, method);
    if (parameters === undefined) Ctx()(controller, method, 0);
  };
}

export const declaredOn = (method: unknown): DeclaredHandler<unknown> | undefined =>
  typeof method === 'function' ? (Reflect.getMetadata(declared, method) as DeclaredHandler<unknown>) : undefined;

export const declaredIn = <Target>(extras: Record<string, unknown>): DeclaredHandler<Target> | undefined =>
  extras[declared] as DeclaredHandler<Target> | undefined;
