import { newClusterId } from './kafka.js';

it('makes cluster ids of 16 bytes that no tool takes for an option', () => {
  const ids = Array.from({ length: 1_000 }, newClusterId);
  expect(ids.filter((id) => id.startsWith('-'))).toEqual([]);
  expect(ids.filter((id) => Buffer.from(id, 'base64url').length !== 16)).toEqual([]);
  expect(new Set(ids).size).toBe(ids.length);
});
