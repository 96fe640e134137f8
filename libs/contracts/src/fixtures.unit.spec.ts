import { fixtureProblems } from '@starter/testing';
import { join } from 'node:path';
import * as contracts from './index.js';
import type { Definition, RetiredEvent } from './index.js';

const definitions = Object.values<unknown>(contracts).filter(
  (it): it is Definition<'command' | 'event', never> | RetiredEvent =>
    typeof it === 'object' && it !== null && 'kind' in it && 'version' in it,
);

it('every version that was ever published has a golden fixture, and is read as recorded', () => {
  expect(definitions.length).toBeGreaterThan(15);
  expect(fixtureProblems(definitions, join(import.meta.dirname, '../fixtures'))).toEqual([]);
});
