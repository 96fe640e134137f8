export { baseSettings, personalDataSettings, readSettings, type BaseSettings } from './configuration.js';
export { readCursor, writeCursor } from './cursor.js';
export { messagingLogger, createPino } from './logging.js';
export { earlierAnswer, idempotencyKeyOf } from './idempotency-key.js';
export { ProblemException, type Problem } from './problem.js';
export { openApi, SchemaPipe } from './schema.pipe.js';
export { runService } from './run-service.js';
export type { ServiceDefinition } from './service-definition.js';
export { startService, type RunningService, type StartOptions, type Transports } from './start-service.js';
