import { MessagePattern } from '@nestjs/microservices';
import type { DataOf, MessageDefinition } from '../definition.js';
import type { Messaging } from '../messaging.js';
import type { TaskContext, TaskOptions } from '../tasks/task-context.js';
import { commandStrategy } from './command-strategy.js';
import { declareHandler, type HandlerDecorator } from './handler-decorator.js';

/**
 * A method of a controller that performs a task, a command whose life is recorded:
 *
 *     @OnTask(ExportUsers)
 *     async export({ data, progress, signal }: TaskContext<typeof ExportUsers>): Promise<{ users: number }>
 *
 * What it returns, a JSON value, is the result. A task that runs in a process or thread of its own has no controller:
 * `messaging.tasks.handle(ExportUsers, { module, isolation })`.
 */
export const OnTask = <Definition extends MessageDefinition & { readonly kind: 'command' }>(
  definition: Definition,
  options: TaskOptions = {},
): HandlerDecorator<TaskContext<Definition>, DataOf<Definition>, unknown> =>
  declareHandler(
    definition,
    (extras) => MessagePattern<string>(definition.type, commandStrategy, extras),
    ({ tasks }: Messaging, call, name) =>
      tasks.handle(definition, (context) => call(context.data, context), { ...options, name }),
  );
