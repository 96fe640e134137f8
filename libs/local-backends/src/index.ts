export { freePorts } from './free-ports.js';
export { startKafka, type KafkaBackendOptions } from './kafka.js';
export { startPgBouncer, type PgBouncerOptions } from './pgbouncer.js';
export { startPostgres } from './postgres.js';
export { startRabbitMq } from './rabbitmq.js';
export { startRedis } from './redis.js';
export type { Backend, BackendOptions, TlsFiles } from './backend.js';
export { MissingPrerequisiteError } from './backend.js';
