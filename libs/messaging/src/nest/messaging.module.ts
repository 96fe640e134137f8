import { type DynamicModule, Module } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { Messaging, type MessagingOptions } from '../messaging.js';

/** Makes {@link Messaging} injectable everywhere and ties it to the application's start and stop. */
@Module({})
export class MessagingModule {
  static forRoot(options: Omit<MessagingOptions, 'dataSource'>): DynamicModule {
    return {
      module: MessagingModule,
      global: true,
      providers: [
        {
          provide: Messaging,
          inject: [DataSource],
          useFactory: (dataSource: DataSource) => new Messaging({ ...options, dataSource }),
        },
      ],
      exports: [Messaging],
    };
  }
}
