import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const readme = readFileSync('README.md', 'utf8');
const lines = readme.split('\n');
const header = lines.findIndex((line) => /^\| step .*\| proven by/.test(line));
const rows = lines.slice(header + 2, lines.indexOf('', header));

/** Files and folders that a text names, below the project or below libs/messaging/src. */
const pathsIn = (text: string): string[] =>
  [...text.matchAll(/`([\w./*-]+\/[\w./*-]*|[\w.-]+\.ts)`/g)].map(([, path]) => path ?? '');
const exists = (path: string): boolean => {
  const folder = path.replace(/\*.*$/, '');
  return existsSync(folder) || existsSync(join('libs/messaging/src', folder));
};

it('has a row for each step', () => expect(rows.length).toBeGreaterThan(15));

it.each(rows)('names files that exist, and a test: %s', (row) => {
  const [, , file = '', proof = ''] = row.split('|');
  expect(pathsIn(file + proof).filter((path) => !exists(path))).toEqual([]);
  expect(/\.spec\.ts`/.test(proof) || proof.includes('the same') || proof.includes('both suites')).toBe(true);
});

it('names only scripts that there are', () => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
  const named = [...readme.matchAll(/npm run ([\w:-]+)/g)].map(([, script]) => script ?? '');
  expect(named.filter((script) => !(script in scripts))).toEqual([]);
});
