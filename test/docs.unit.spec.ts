import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const documents = [
  'README.md',
  'bench/README.md',
  ...readdirSync('docs', { recursive: true, encoding: 'utf8' }).map((name) => join('docs', name)),
].filter((name) => name.endsWith('.md'));

/** Below the project, or as some guides shorten them. */
const roots = ['.', 'libs/messaging/src'];

describe.each(documents)('%s', (document) => {
  const text = readFileSync(document, 'utf8');

  it('links only to files that exist', () => {
    const links = [...text.matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g)].map(([, link = '']) => link);
    expect(links.filter((link) => !existsSync(join(dirname(document), link)))).toEqual([]);
  });

  it('names only specs that exist', () => {
    const specs = [...text.matchAll(/`([\w./-]+\.spec\.ts)`/g)].map(([, spec = '']) => spec);
    expect(specs.filter((spec) => !roots.some((root) => existsSync(join(root, spec))))).toEqual([]);
  });
});

it('docs/architecture.md gives each step a file, and is one click away from the README', () => {
  const steps = readFileSync('docs/architecture.md', 'utf8')
    .split(/\n(?=\d+\. )/)
    .slice(1);
  expect(steps.length).toBeGreaterThan(30);
  expect(steps.filter((step) => !/\]\(\.\.\/[\w./-]+\.ts\)/.test(step))).toEqual([]);
  expect(readFileSync('README.md', 'utf8')).toContain('(docs/architecture.md)');
});

describe('docs/concepts.md', () => {
  const rows = readFileSync('docs/concepts.md', 'utf8')
    .split('\n')
    .filter((line) => /^\| (?!concept|-)/.test(line))
    .map((line) => line.split('|').map((cell) => cell.trim()));

  it('has at most 25 concepts', () => expect(rows.length).toBeLessThanOrEqual(25));

  it('names tables that a migration creates', () => {
    const migrations = ['libs', 'apps'].flatMap((folder) =>
      readdirSync(folder, { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.migration.ts') && !name.includes('node_modules'))
        .map((name) => readFileSync(join(folder, name), 'utf8')),
    );
    const tables = new Set(migrations.join('').match(/(?<=CREATE TABLE )\w+/g));
    const named = rows.flatMap(([, , , keptIn = '']) => keptIn.match(/(?<=`)[a-z_]+(?=`)/g) ?? []);
    expect(named.length).toBeGreaterThan(15);
    expect(named.filter((name) => !tables.has(name))).toEqual([]);
  });
});
