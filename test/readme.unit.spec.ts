import { existsSync, readFileSync } from 'node:fs';

const readme = readFileSync('README.md', 'utf8');
const lines = readme.trimEnd().split('\n');

it('has at most 200 lines', () => expect(lines.length).toBeLessThanOrEqual(200));

it('has no table wider than 110 characters', () => {
  expect(lines.filter((line) => line.startsWith('|') && line.length > 110)).toEqual([]);
});

it('names only files that exist', () => {
  const paths = [...readme.matchAll(/`((?:apps|libs|test|chaos|cli|docs)\/[\w./-]+)`/g)].map(([, path = '']) => path);
  expect(paths.length).toBeGreaterThan(10);
  expect(paths.filter((path) => !existsSync(path))).toEqual([]);
});

it('names only scripts that there are', () => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
  const named = [...readme.matchAll(/npm run ([\w:-]+)/g)].map(([, script = '']) => script);
  expect(named.filter((script) => !(script in scripts))).toEqual([]);
});

it('lists the files of a service', () => {
  const listed = [...readme.matchAll(/^ {4}((?:apps|libs)\/\S+)/gm)].map(([, path = '']) => path);
  expect(listed).toHaveLength(5);
  expect(listed.filter((path) => !existsSync(path))).toEqual([]);
});

describe('samples', () => {
  const samples = [...readme.matchAll(/^```ts\n\/\/ (\S+)\n([^]*?)^```/gm)].map(([, file = '', code = '']) => ({
    file,
    code,
  }));
  const squeezed = (code: string): string => code.replace(/\s+/g, ' ').trim();

  it('each name their file', () => expect(samples).toHaveLength(readme.split('```ts').length - 1));

  it.each(samples)('are taken from $file', ({ file, code }) => {
    const source = squeezed(readFileSync(file, 'utf8'));
    const parts = code.split(/^\s*\/\/ …\n/m).map(squeezed);
    expect(parts.filter((part) => !source.includes(part))).toEqual([]);
  });
});
