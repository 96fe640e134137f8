import { MessagePattern } from '@nestjs/microservices';
import {
  commandStrategy,
  declareHandler,
  type DataOf,
  type HandlerDecorator,
  type MessageDefinition,
  type Messaging,
} from '@starter/messaging';
import type { TaskContext, TaskOptions } from './task-context.js';
import { Tasks } from './tasks.js';

/**
 * A method of a controller that performs a task, a command whose life is recorded:
 *
 *     @OnTask(ExportUsers)
 *     async export({ data, progress, signal }: TaskContext<typeof ExportUsers>): Promise<{ users: number }>
 *
 * What it returns, a JSON value, is the result. A task that runs in a process or thread of its own has no controller:
 * `tasks.handle(ExportUsers, { module, isolation })`.
 */
export const OnTask = <Definition extends MessageDefinition & { readonly kind: 'command' }>(
  definition: Definition,
  options: TaskOptions = {},
): HandlerDecorator<TaskContext<Definition>, DataOf<Definition>, unknown> =>
  declareHandler(
    definition,
    (extras) => MessagePattern<string>(definition.type, commandStrategy, extras),
    (messaging: Messaging, call, name) =>
      Tasks.of(messaging).handle(definition, (context) => call(context.data, context), { ...options, name }),
  );
