import { type DynamicModule, Module } from '@nestjs/common';
import { Messaging } from '@starter/messaging';
import { PersonalData, type PersonalDataSettings } from './personal-data.js';

/** Gives a service {@link PersonalData}: what its actors get is sealed, and it can open what was sealed for it. */
@Module({})
export class PersonalDataModule {
  static forRoot(settings: PersonalDataSettings): DynamicModule {
    const personalData = {
      provide: PersonalData,
      inject: [Messaging],
      useFactory: (messaging: Messaging) => PersonalData.join(messaging, settings),
    };
    return { module: PersonalDataModule, global: true, providers: [personalData], exports: [PersonalData] };
  }
}
