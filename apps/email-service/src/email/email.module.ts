import { type DynamicModule, Module } from '@nestjs/common';
import { ActorModule, ActorRuntimeModule } from '@starter/event-sourcing';
import { Messaging } from '@starter/messaging';
import { PersonalDataModule, type PersonalDataSettings } from '@starter/personal-data';
import { campaign } from '../campaign/campaign.decider.js';
import { EmailController } from './email.controller.js';
import { EmailSender } from './email-sender.controller.js';
import { MailServerState } from './mail-server-state.js';
import { Mailer, type MailerOptions } from './mailer.js';

interface EmailOptions {
  readonly mailer: MailerOptions;
  readonly personalData: PersonalDataSettings;
}

@Module({})
export class EmailModule {
  static forRoot({ mailer, personalData }: EmailOptions): DynamicModule {
    return {
      module: EmailModule,
      // Not the commands of e-mails: they would be handled in one transaction, and sending an e-mail cannot be in it.
      imports: [
        PersonalDataModule.forRoot(personalData),
        ActorRuntimeModule,
        ActorModule.forFeature({ actors: [campaign] }),
      ],
      controllers: [EmailController, EmailSender],
      providers: [
        { provide: Mailer, useFactory: () => new Mailer(mailer) },
        {
          provide: MailServerState,
          inject: [Messaging],
          useFactory: (messaging: Messaging) => new MailServerState(messaging),
        },
      ],
    };
  }
}
