import type { INestApplication } from '@nestjs/common';
import { ApplicationConfig } from '@nestjs/core';
import { Messaging } from '../messaging.js';
import { CommandStrategy } from './command-strategy.js';
import { EventStrategy } from './event-strategy.js';
import { KeepErrors } from './keep-errors.filter.js';
import { MessagingModule } from './messaging.module.js';

/**
 * Registers the methods of controllers that are decorated with `@OnCommand`, `@OnEvent` and `@OnTask`. The guards, pipes,
 * interceptors and filters of the application apply to them as to HTTP: those that are global have to be there before, and to
 * look at `context.getType()`, which is `rpc` here.
 *
 *     const app = await NestFactory.create(AppModule);
 *     await connectMessaging(app);
 *     await app.init();
 *
 * @throws Error when the application has started already, and when a message would have two handlers
 */
export async function connectMessaging(app: INestApplication): Promise<void> {
  const messaging = app.get(Messaging);
  if (messaging.started) throw new Error('the application has started: call connectMessaging(app) before app.init()');
  // As the first of them it is asked last.
  app.get(ApplicationConfig).getGlobalFilters().unshift(new KeepErrors());
  for (const strategy of [new CommandStrategy(messaging), new EventStrategy(messaging)]) {
    await app.connectMicroservice({ strategy }, { inheritAppConfig: true }).listen();
  }
  app.get(MessagingModule).connected = true;
}
