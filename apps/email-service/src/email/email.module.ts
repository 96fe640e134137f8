import { type DynamicModule, Module } from '@nestjs/common';
import { ActorRuntime, ActorRuntimeModule } from '@starter/event-sourcing';
import { Messaging } from '@starter/messaging';
import { EmailController } from './email.controller.js';
import { EmailTask } from './email.task.js';
import { Mailer, type MailerOptions } from './mailer.js';

@Module({})
export class EmailModule {
  static forRoot(options: MailerOptions): DynamicModule {
    return {
      module: EmailModule,
      // Not the actor's commands: they would be handled in one transaction, and sending an e-mail cannot be in it.
      imports: [ActorRuntimeModule],
      controllers: [EmailController],
      providers: [
        { provide: Mailer, useFactory: () => new Mailer(options) },
        {
          provide: EmailTask,
          inject: [Messaging, ActorRuntime, Mailer],
          useFactory: (messaging: Messaging, runtime: ActorRuntime, mailer: Mailer) =>
            new EmailTask(messaging, runtime, mailer),
        },
      ],
    };
  }
}
