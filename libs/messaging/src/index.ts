export * from './errors.js';
export * from './message.js';
export * from './outcome.js';
export * from './transport/command-transport.js';
export * from './transport/delivery.js';
export * from './transport/event-transport.js';
