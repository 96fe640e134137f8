export { startBackends, type Backends } from './backends.js';
export { MailCatcher, type CaughtMail } from './mail-catcher.js';
export { MailReader } from './mail-reader.js';
export { brokerModes, type BrokerMode } from './options.js';
export { startServices, type Services } from './services.js';
