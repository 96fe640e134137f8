export * from './bank.js';
export { eventually } from './eventually.js';
export { fixtureProblems, schemaFingerprint } from './fixture-problems.js';
export { given } from './given.js';
export { seededRandom } from './seeded-random.js';
export { openTestDataSource, type TestDataSource } from './test-data-source.js';
export { createTestDatabase, type TestDatabase } from './test-database.js';
export { uniqueName } from './unique-name.js';
