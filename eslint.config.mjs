import { defineConfig, globalIgnores } from 'eslint/config';
import prettier from 'eslint-config-prettier';
import { importX } from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';

const apps = ['user-service', 'email-service', 'orchestrator'];
const libs = [
  'contracts',
  'messaging',
  'event-sourcing',
  'service',
  'tasks',
  'personal-data',
  'workflows',
  'local-backends',
];

/** Which workspace packages each folder may import, and why no others. Everything else about imports follows from this table. */
const boundaries = [
  {
    folder: 'libs/contracts',
    may: [],
    because: 'contracts is the one thing that services share: whatever it imports, every service depends on.',
  },
  {
    folder: 'libs/messaging',
    may: [],
    because: 'messaging moves any message reliably: it knows no domain and no other package.',
  },
  {
    folder: 'libs/event-sourcing',
    may: ['messaging'],
    because:
      'event-sourcing turns commands into stored events and needs only @starter/messaging, so that any service can use it.',
  },
  {
    folder: 'libs/service',
    may: ['messaging'],
    because:
      'service is the frame of every service (HTTP, health, logs) and needs only @starter/messaging: it knows no domain.',
  },
  {
    folder: 'libs/tasks',
    may: ['messaging', 'service'],
    because:
      'tasks plug into the messages and the frame of any service: they know no domain, and neither library knows them.',
  },
  {
    folder: 'libs/personal-data',
    may: ['messaging'],
    inSpecs: ['event-sourcing'],
    because: 'personal-data plugs into messaging, which seals by it and does not know it.',
  },
  {
    folder: 'libs/workflows',
    may: ['contracts', 'messaging', 'event-sourcing', 'service'],
    inSpecs: ['orchestrator', 'tasks'],
    because: 'workflows run over any services, whose contracts are given to them: they know no service.',
  },
  {
    folder: 'libs/local-backends',
    may: [],
    because: 'local-backends starts brokers and databases: it knows nothing of what will use them.',
  },
  {
    folder: 'libs/testing',
    may: libs,
    because: 'testing helps every lib and app with its specs: it must work without any app.',
  },
  {
    folder: 'apps',
    may: ['contracts', 'messaging', 'event-sourcing', 'service', 'tasks', 'personal-data', 'workflows'],
    because:
      'services are deployed apart and meet only in messages: an app imports libs that run in production, never another app.',
  },
  {
    folder: 'demo',
    may: [...libs, ...apps],
    because: 'the demo runs the apps as they are.',
  },
  {
    folder: 'cli',
    may: ['contracts', 'messaging', 'event-sourcing', 'service', 'tasks', 'personal-data', 'workflows', ...apps],
    because:
      'the command line serves the operators of every service: it reads their logs with the actors that wrote them.',
  },
  {
    folder: 'bench',
    may: [...libs, ...apps],
    because: 'benchmarks measure the apps and libs as they are.',
  },
  {
    folder: 'chaos',
    may: [...libs, ...apps, 'demo'],
    because: 'the chaos suite breaks the system as it is, and reads what is left without the help of the services.',
  },
];

/** An import that matches `regex` is an error with this message. */
const deepImport = {
  regex: '^@starter/[^/]+/',
  message: 'Import a package by its public index, @starter/<name>: its files are free to move.',
};
const leavesThePackage = {
  regex: '^\\.\\./(.*/)?(src|dist|libs|apps|demo|cli|bench|chaos|test|scripts)/',
  message:
    'A relative import stays in its package: import other packages by name, so that package.json lists them and images hold them.',
};
const testingOnlyInSpecs = {
  regex: '^@starter/testing$',
  message: '@starter/testing is imported only by *.spec.ts and test/: test helpers never reach production.',
};
const impure = {
  regex: '^(?!@starter/(contracts|event-sourcing|workflows)$|\\.\\.?/)',
  message:
    'Deciders and workflows are pure: they import only @starter/contracts, @starter/event-sourcing, @starter/workflows and their own relative files, so that replay and tests need nothing else. Move I/O and Nest into a handler or module.',
};

const otherThan = (may, because, inSpecs = []) => ({
  // @starter/testing has a message of its own.
  regex: `^@starter/(?!(${['testing', ...may, ...inSpecs].join('|')})(/|$))`,
  message: `${because} Allowed here: ${may.map((name) => `@starter/${name}`).join(', ') || 'no workspace package'}.`,
});

/** The same list for static and for dynamic imports: the core rule sees only the static ones. */
const forbidImports = (patterns, syntax = []) => ({
  'no-restricted-imports': ['error', { patterns }],
  'no-restricted-syntax': [
    'error',
    ...patterns.map(({ regex, message }) => ({
      selector: `ImportExpression[source.value=/${regex.replaceAll('/', '\\u002F')}/]`,
      message,
    })),
    ...syntax,
  ],
});

const notReplayable =
  'Deciders and workflows are replayed: time, chance and the environment come in with the message or its context.';

export default defineConfig(
  globalIgnores(['**/dist/', '**/coverage/', 'data/', '.cache/']),

  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    plugins: { 'import-x': importX },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      // A port promises a Promise: an adapter that has nothing to wait for is still `async`, so that its throws reject.
      '@typescript-eslint/require-await': 'off',
      // Options and payloads (those of kafkajs, for one) hand over plain functions that are declared like methods.
      '@typescript-eslint/unbound-method': 'off',
      'max-lines': ['warn', { max: 250, skipBlankLines: true, skipComments: true }],
    },
  },

  {
    files: ['{libs,apps}/*/src/**/*.ts', '{demo,bench,chaos,cli}/src/**/*.ts'],
    ignores: ['**/*.spec.ts'],
    // A package that is not in the nearest package.json is missing in the image.
    rules: { 'import-x/no-extraneous-dependencies': 'error' },
  },

  ...boundaries.flatMap(({ folder, may, inSpecs = [], because }) => [
    {
      files: [`${folder}/**/*.ts`],
      rules: forbidImports([deepImport, leavesThePackage, testingOnlyInSpecs, otherThan(may, because)]),
    },
    {
      files: [`${folder}/**/*.spec.ts`],
      rules: forbidImports([deepImport, leavesThePackage, otherThan(may, because, ['local-backends', ...inSpecs])]),
    },
  ]),

  {
    files: ['test/**/*.ts'],
    rules: forbidImports([deepImport, leavesThePackage]),
  },

  {
    files: ['**/*.decider.ts', '**/*.workflow.ts'],
    rules: {
      ...forbidImports(
        [deepImport, leavesThePackage, impure],
        [{ selector: 'NewExpression[callee.name="Date"][arguments.length=0]', message: notReplayable }],
      ),
      'no-restricted-globals': [
        'error',
        ...['process', 'fetch', 'console', 'crypto', 'performance', 'setTimeout', 'setInterval', 'setImmediate'].map(
          (name) => ({ name, message: notReplayable }),
        ),
      ],
      'no-restricted-properties': [
        'error',
        { object: 'Date', property: 'now', message: notReplayable },
        { object: 'Math', property: 'random', message: notReplayable },
      ],
    },
  },

  {
    files: ['**/*.spec.ts', 'test/**/*.ts', 'libs/testing/**/*.ts'],
    rules: {
      // Specs read wire formats and third-party answers: `any` is what they get, and a wrong guess fails the spec.
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      'max-lines': 'off',
    },
  },

  prettier,
);
