import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { minVersion, satisfies } from 'semver';

interface Package {
  readonly version?: string;
  readonly engines?: { readonly node?: string };
  readonly resolved?: string;
}

const root = join(import.meta.dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const manifest = JSON.parse(read('package.json')) as {
  readonly engines: { readonly node: string };
  readonly scripts: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
};
const { packages } = JSON.parse(read('package-lock.json')) as { readonly packages: Readonly<Record<string, Package>> };

/** What `npm ci` installs, and npm scripts run on. */
const standard = manifest.devDependencies['node'] ?? '';
/** The oldest of each line that is supported. */
const floors = manifest.engines.node.split('||').map((line) => minVersion(line)?.version ?? '');

/** Packages that refuse one of the versions, which `npm ci` would tell with EBADENGINE. */
const refusing = (locked: Readonly<Record<string, Package>>, versions: readonly string[]) =>
  Object.entries(locked).flatMap(([path, { version = '', engines }]) =>
    versions
      .filter((node) => engines?.node !== undefined && !satisfies(node, engines.node))
      .map((node) => `${path}@${version} wants Node ${engines?.node}, which ${node} is not`),
  );

it('has Node 22.22.3 and 24.15 as its floor', () => expect(floors).toEqual(['22.22.3', '24.15.0']));

it('locks no package, of production or development, that refuses the floor or the Node that scripts run on', () => {
  expect(Object.keys(packages).length).toBeGreaterThan(500);
  expect(refusing(packages, [...floors, standard])).toEqual([]);
});

it('would tell of one', () => {
  const newer = { 'node_modules/newer': { version: '2.0.0', engines: { node: '^22.23.0 || >=24.16' } } };
  expect(refusing(newer, [...floors, standard])).toEqual([
    'node_modules/newer@2.0.0 wants Node ^22.23.0 || >=24.16, which 22.22.3 is not',
    'node_modules/newer@2.0.0 wants Node ^22.23.0 || >=24.16, which 24.15.0 is not',
  ]);
});

it('has one Node for npm scripts, version managers and images', () => {
  expect(standard).toMatch(/^24\.\d+\.\d+$/);
  expect(satisfies(standard, manifest.engines.node)).toBe(true);
  expect(read('.nvmrc').trim()).toBe(standard);
  expect(/^FROM node:([\d.]+)-[a-z]+-slim AS base$/m.exec(read('Dockerfile'))?.[1]).toBe(standard);
  expect(manifest.devDependencies['@types/node']).toMatch(/^24\./);
});

it('runs the fast specs on the floor', () => {
  expect(manifest.scripts['test:floor']).toContain(`--package=node@${floors[0]} -- node `);
});

it('has one list of engines, and installs on a machine whose own Node is older', () => {
  const ours = Object.keys(packages).filter((path) => path !== '' && !path.includes('node_modules/'));
  expect(ours.length).toBeGreaterThan(5);
  expect(ours.filter((path) => packages[path]?.engines)).toEqual([]);
  expect(read('.npmrc')).not.toContain('engine-strict');
});

it('keeps the addresses of registries out of the lock', () => {
  expect(Object.values(packages).filter(({ resolved }) => resolved?.includes('://'))).toEqual([]);
});
