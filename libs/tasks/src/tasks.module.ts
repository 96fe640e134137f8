import { type DynamicModule, Module } from '@nestjs/common';
import { Messaging } from '@starter/messaging';
import { TaskController } from './task.controller.js';
import { Tasks, type TasksOptions } from './tasks.js';

/** Gives a service tasks: {@link Tasks} to register and look at them, and the HTTP API of its operators. */
@Module({})
export class TasksModule {
  static forRoot(options: TasksOptions = {}): DynamicModule {
    const tasks = {
      provide: Tasks,
      inject: [Messaging],
      useFactory: (messaging: Messaging) => new Tasks(messaging, options),
    };
    return { module: TasksModule, global: true, controllers: [TaskController], providers: [tasks], exports: [Tasks] };
  }
}
