import { type DynamicModule, Module } from '@nestjs/common';
import { ActorModule, ActorRuntime, ActorRuntimeModule } from '@starter/event-sourcing';
import { Messaging } from '@starter/messaging';
import { campaign } from '../campaign/campaign.decider.js';
import { EmailController } from './email.controller.js';
import { EmailTask } from './email.task.js';
import { Mailer, type MailerOptions } from './mailer.js';

@Module({})
export class EmailModule {
  static forRoot(options: MailerOptions): DynamicModule {
    return {
      module: EmailModule,
      // Not the commands of e-mails: they would be handled in one transaction, and sending an e-mail cannot be in it.
      imports: [ActorRuntimeModule, ActorModule.forFeature({ actors: [campaign] })],
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
