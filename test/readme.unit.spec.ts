import { readFileSync } from 'node:fs';

const readme = readFileSync('README.md', 'utf8');

it('leads to the map of features, files and specs', () => expect(readme).toContain('(docs/map.md)'));

it('names only scripts that there are', () => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
  const named = [...readme.matchAll(/npm run ([\w:-]+)/g)].map(([, script]) => script ?? '');
  expect(named.filter((script) => !(script in scripts))).toEqual([]);
});
