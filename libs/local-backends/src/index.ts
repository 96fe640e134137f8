export { startKafka } from './kafka.js';
export { startPostgres } from './postgres.js';
export { startRabbitMq } from './rabbitmq.js';
export type { Backend, BackendOptions } from './backend.js';
export { MissingPrerequisiteError } from './backend.js';
