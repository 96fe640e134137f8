export { CreatePersonalKeys1760000000004 } from './create-personal-keys.migration.js';
export { keyTopic } from './key-messages.js';
export {
  ErasedSubjectError,
  KeyNotArrivedError,
  PersonalData,
  type PersonalDataOptions,
  type PersonalDataSettings,
} from './personal-data.js';
export { PersonalDataModule } from './personal-data.module.js';
