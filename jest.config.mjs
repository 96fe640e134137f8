/** `npm test` runs this with --experimental-vm-modules: the whole project and NestJS 12 are ESM. */
export default {
  testMatch: ['<rootDir>/{apps,libs,demo,bench,chaos,cli,test}/**/*.spec.ts'],
  testPathIgnorePatterns: ['/node_modules/', '/dist/'],
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  // Workspace packages resolve to their sources through the "source" condition of their exports.
  testEnvironmentOptions: { customExportConditions: ['source', 'node', 'node-addons'] },
  transform: {
    '^.+\\.ts$': ['@swc/jest', { swcrc: true }],
    // @fastify/static (CommonJS) requires this ESM package: Node can, Jest can from Node 24.9 on.
    '/content-disposition/.+\\.js$': ['@swc/jest', { swcrc: false, module: { type: 'commonjs' } }],
  },
  transformIgnorePatterns: ['/node_modules/(?!.*content-disposition/)'],
  testTimeout: 60_000,
  globalSetup: './test/backends.setup.mjs',
  globalTeardown: './test/backends.teardown.mjs',
  testSequencer: './test/longest-first.sequencer.mjs',
  reporters: ['default', './test/summary.reporter.mjs'],
  // The backends need a processor too.
  maxWorkers: 2,
};
