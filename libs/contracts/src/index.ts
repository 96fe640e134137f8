export * from './definition.js';
export * from './email.js';
export { json } from './json.js';
export { personal, plain, sealed } from './personal.js';
export * from './topology.js';
export * from './user.js';
export * from './workflow.js';
