import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { ESLint } from 'eslint';
import ts from 'typescript';
import tseslint from 'typescript-eslint';

const root = join(import.meta.dirname, '..');

/** Untracked files too: the rules should speak before the commit. */
const filesOf = (...patterns: readonly string[]): string[] => {
  const options = ['ls-files', '--cached', '--others', '--exclude-standard', '--', ...patterns];
  return execFileSync('git', options, { cwd: root }).toString().trim().split('\n');
};

describe('import rules of the layout', () => {
  // The files of these specs do not exist, so no type information: the rules about imports need none.
  const eslint = new ESLint({ cwd: root, overrideConfig: [tseslint.configs.disableTypeChecked] });

  const lint = async (filePath: string, code: string) => {
    const [result] = await eslint.lintText(code, { filePath: join(root, filePath) });
    return result!.messages.map(({ message }) => message);
  };
  const importing = (specifier: string) => `import { it } from '${specifier}';\nexport const its = it;\n`;

  it.each([
    ['libs/contracts/src/user.ts', '@starter/messaging', 'every service depends on'],
    ['libs/messaging/src/inbox/inbox.ts', '@starter/contracts', 'knows no domain'],
    ['libs/messaging/src/inbox/inbox.ts', '@starter/event-sourcing', 'knows no domain'],
    ['libs/event-sourcing/src/actor.ts', '@starter/service', 'needs only @starter/messaging'],
    ['libs/event-sourcing/src/actor.ts', '@starter/contracts', 'needs only @starter/messaging'],
    ['libs/service/src/health.ts', '@starter/event-sourcing', 'needs only @starter/messaging'],
    ['libs/local-backends/src/kafka.ts', '@starter/messaging', 'knows nothing of what will use them'],
    ['libs/testing/src/given.ts', '@starter/user-service', 'without any app'],
    ['libs/event-sourcing/src/actor.ts', '@starter/testing', 'only by *.spec.ts'],
    ['cli/src/events.ts', '@starter/testing', 'only by *.spec.ts'],
    ['cli/src/events.ts', '@starter/local-backends', 'the operators of every service'],
    ['apps/user-service/src/main.ts', '@starter/cli', 'never another app'],
    ['apps/user-service/src/main.ts', '@starter/testing', 'only by *.spec.ts'],
    ['demo/src/main.ts', '@starter/testing', 'only by *.spec.ts'],
    ['apps/user-service/src/main.ts', '@starter/local-backends', 'libs that run in production'],
    ['apps/user-service/src/main.ts', '@starter/email-service', 'never another app'],
    ['apps/user-service/src/main.int.spec.ts', '@starter/email-service', 'never another app'],
    ['apps/user-service/src/main.ts', '@starter/messaging/dist/kafka.js', 'public index'],
    ['apps/user-service/src/main.int.spec.ts', '@starter/messaging/src/kafka.js', 'public index'],
    ['demo/src/main.ts', '@starter/user-service/dist/main.js', 'public index'],
    ['test/onboarding.e2e.int.spec.ts', '@starter/user-service/dist/main.js', 'public index'],
    ['apps/user-service/src/main.ts', '../../../libs/messaging/src/index.js', 'stays in its package'],
    ['apps/user-service/src/user/user.module.ts', '../../../email-service/src/index.js', 'stays in its package'],
    ['libs/service/src/health.ts', '../../messaging/src/index.js', 'stays in its package'],
    ['libs/service/src/health.unit.spec.ts', '../../../test/helper.js', 'stays in its package'],
    ['test/onboarding.e2e.int.spec.ts', '../apps/user-service/src/main.js', 'stays in its package'],
    ['apps/user-service/src/user/user.decider.ts', '@nestjs/common', 'are pure'],
    ['apps/user-service/src/user/user.decider.ts', '@starter/messaging', 'are pure'],
    ['apps/user-service/src/user/user.decider.ts', 'node:fs', 'are pure'],
    ['apps/user-service/src/user/user.decider.ts', 'fs', 'are pure'],
    ['apps/orchestrator/src/workflows/user-onboarding.workflow.ts', 'typeorm', 'are pure'],
    ['apps/orchestrator/src/workflows/user-onboarding.workflow.ts', '@starter/contracts/dist/user.js', 'public index'],
  ])('%s must not import %s: … %s …', async (file, specifier, reason) => {
    const rejected = expect.arrayContaining([expect.stringContaining(reason)]);
    expect(await lint(file, importing(specifier))).toEqual(rejected);
    expect(await lint(file, `export * from '${specifier}';\n`)).toEqual(rejected);
    expect(await lint(file, `export const it = await import('${specifier}');\n`)).toEqual(rejected);
  });

  it.each([
    ['libs/messaging/src/inbox/inbox.ts', '../message.js'],
    ['libs/messaging/src/inbox/inbox.int.spec.ts', '@starter/testing'],
    ['libs/messaging/src/inbox/inbox.int.spec.ts', '@starter/local-backends'],
    ['libs/event-sourcing/src/actor.ts', '@starter/messaging'],
    ['libs/service/src/health.ts', '@starter/messaging'],
    ['libs/testing/src/given.ts', '@starter/event-sourcing'],
    ['apps/user-service/src/main.ts', '@starter/contracts'],
    ['apps/user-service/src/main.ts', '@starter/service'],
    ['apps/user-service/src/user/user.module.ts', './user.decider.js'],
    ['apps/user-service/src/user/user.int.spec.ts', '@starter/testing'],
    ['demo/src/main.ts', '@starter/user-service'],
    ['cli/src/events.ts', '@starter/user-service'],
    ['cli/src/events.ts', '@starter/event-sourcing'],
    ['demo/src/main.ts', '@starter/local-backends'],
    ['test/onboarding.e2e.int.spec.ts', '@starter/email-service'],
    ['test/onboarding.e2e.int.spec.ts', '@starter/testing'],
    ['apps/user-service/src/user/user.decider.ts', '@starter/contracts'],
    ['apps/user-service/src/user/user.decider.ts', '@starter/event-sourcing'],
    ['apps/user-service/src/user/user.decider.ts', './user.state.js'],
    ['apps/orchestrator/src/workflows/user-onboarding.workflow.ts', '../engine/workflow.js'],
    ['apps/user-service/src/user/user.decider.unit.spec.ts', '@starter/testing'],
  ])('%s may import %s', async (file, specifier) => {
    expect(await lint(file, importing(specifier))).toEqual([]);
    expect(await lint(file, `export const it = await import('${specifier}');\n`)).toEqual([]);
  });

  it.each(['Date.now()', 'new Date()', 'Math.random()', 'process.env', "fetch('https://example.org')"])(
    'a decider must not ask %s',
    async (expression) => {
      const code = `export const it = ${expression};\n`;
      const replayed = expect.stringContaining('are replayed');
      expect(await lint('apps/user-service/src/user/user.decider.ts', code)).toEqual([replayed]);
      expect(await lint('apps/user-service/src/user/user.controller.ts', code)).toEqual([]);
    },
  );

  it('a package imports only what its package.json lists', async () => {
    const file = 'libs/contracts/src/user.ts';
    expect(await lint(file, importing('zod'))).toEqual([]);
    expect(await lint(file, importing('kafkajs'))).toEqual([expect.stringContaining("'kafkajs' should be listed")]);
  });
});

describe('rules about promises and types', () => {
  // They need types, so the code stands in for that of a file which the TypeScript project has.
  const eslint = new ESLint({ cwd: root });
  const filePath = join(root, 'libs/messaging/src/outcome.ts');

  it.each([
    ['no-floating-promises', 'export const start = () => { Promise.resolve(); };'],
    ['no-misused-promises', 'export const start = () => { [1].forEach(async () => { await Promise.resolve(); }); };'],
    ['no-explicit-any', 'export const start = (it: any): void => void it;'],
    ['consistent-type-imports', "import { Message } from './message.js';\nexport type It = Message;"],
  ])('%s', async (rule, code) => {
    const [result] = await eslint.lintText(`${code}\n`, { filePath });
    expect(result!.messages.map(({ ruleId }) => ruleId)).toEqual([`@typescript-eslint/${rule}`]);
  });
});

describe('import circles', () => {
  const packages = new Map(
    filesOf('*/package.json', '*/*/package.json').map((path) => {
      const { name } = JSON.parse(readFileSync(join(root, path), 'utf8')) as { name: string };
      return [name, posix.join(posix.dirname(path), 'src/index.ts')];
    }),
  );

  /** What a file imports or exports from, lazily or as a type too: the rule `import-x/no-cycle` does not follow types. */
  const importsOf = (file: string, code: string): string[] =>
    ts.preProcessFile(code).importedFiles.flatMap(({ fileName }) => {
      if (!fileName.startsWith('.')) return packages.get(fileName) ?? [];
      return posix.join(posix.dirname(file), fileName).replace(/\.js$/, '.ts');
    });

  /** At least one of every knot of files. */
  function circlesIn(sources: ReadonlyMap<string, string>): string[] {
    const circles: string[] = [];
    const done = new Set<string>();
    const path: string[] = [];
    const visit = (file: string): void => {
      const start = path.indexOf(file);
      if (start >= 0) circles.push([...path.slice(start), file].join(' → '));
      const code = sources.get(file);
      if (start >= 0 || done.has(file) || code === undefined) return;
      path.push(file);
      for (const imported of importsOf(file, code)) visit(imported);
      path.pop();
      done.add(file);
    };
    for (const file of sources.keys()) visit(file);
    return circles.map((circle) => `${circle}: move what both sides need to a file of its own, or to the lower side`);
  }

  it('are found: of values, of types, of exports, of lazy imports, and between packages', () => {
    const circles = circlesIn(
      new Map([
        ['a/value.ts', "import { it } from './type.js';\n// import './value.js'\n"],
        ['a/type.ts', "import type { It } from './export.js';\nimport './outside.js';\n"],
        ['a/export.ts', "import 'node:fs';\nexport * from '../b/lazy.js';\n"],
        ['a/outside.ts', "import '../b/lower.js';\n"],
        ['b/lazy.ts', "export const it = () => import('../a/value.js');\n"],
        ['b/lower.ts', 'export const it = 1;\n'],
        ['libs/messaging/src/index.ts', "export * from './message.js';\n"],
        ['libs/messaging/src/message.ts', "import type { It } from '@starter/messaging';\n"],
      ]),
    );
    expect(circles).toEqual([
      expect.stringMatching(/^a\/value.ts → a\/type.ts → a\/export.ts → b\/lazy.ts → a\/value.ts: move what/),
      expect.stringMatching(/^libs\/messaging\/src\/index.ts → libs\/messaging\/src\/message.ts → libs\//),
    ]);
  });

  it('there are none', () => {
    const files = filesOf('*.ts').filter((file) => existsSync(join(root, file)));
    expect(files.length).toBeGreaterThan(500);
    expect(circlesIn(new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')])))).toEqual([]);
  });
});

describe('names of files and folders', () => {
  const vague = ['common', 'utils', 'shared', 'config', 'helpers'];

  const complaints = (path: string): string[] => {
    const folders = path.split('/').slice(0, -1);
    const file = path.slice(path.lastIndexOf('/') + 1);
    return [
      ...folders
        .filter((folder) => vague.includes(folder))
        .map(
          (folder) => `${path}: a folder named "${folder}" says nothing of what is in it; name it after its subject`,
        ),
      ...(/\.[cm]?[jt]s$/.test(file) && !/^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)*$/.test(file)
        ? [
            `${path}: write file names in kebab-case with a role suffix (user-directory.projection.ts): they look the same on every file system`,
          ]
        : []),
    ];
  };

  it('the rule tells good from bad', () => {
    expect(complaints('libs/messaging/src/outbox/outbox-relay.ts')).toEqual([]);
    expect(complaints('apps/user-service/src/user/user.decider.unit.spec.ts')).toEqual([]);
    expect(complaints('apps/user-service/src/utils/dates.ts')).toEqual([expect.stringContaining('"utils"')]);
    expect(complaints('apps/user-service/src/UserModule.ts')).toEqual([expect.stringContaining('kebab-case')]);
    expect(complaints('apps/user-service/src/user_module.ts')).toEqual([expect.stringContaining('kebab-case')]);
  });

  it('holds for every file', () => {
    expect(filesOf().flatMap(complaints)).toEqual([]);
  });
});
