import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const map = readFileSync('docs/map.md', 'utf8');

/** Each entry is a list item of three lines: what it is, its files, its tests. */
const entries = map
  .split('\n- ')
  .slice(1)
  .map((text) => ({ name: /^\*\*(.+?)\*\*/.exec(text)?.[1] ?? text, text }));

const linksIn = (text: string): string[] => [...text.matchAll(/\]\(([^)#:]+)[^)]*\)/g)].map(([, link = '']) => link);
const line = (text: string, label: string): string => new RegExp(`^ *${label}: (.*)$`, 'm').exec(text)?.[1] ?? '';

it.each([
  'RabbitMQ client',
  'Exchanges and bindings',
  'Work queue',
  'Reliable consumer',
  'Kafka producer',
  'Kafka consumer group',
  'Event envelope',
  'Outbox and relay',
  'Idempotent processing',
  'Ordered events',
  'Failure triage',
  'Dead letters',
  'Actors',
  'Projections',
  'Task tracking',
  'Task control',
  'Workflow definitions',
  'Workflow engine',
  'Backpressure',
  'Queue metrics',
])('has an entry for: %s', (step) => expect(entries.map(({ name }) => name)).toContain(step));

it('has one entry per name', () => expect(new Set(entries.map(({ name }) => name)).size).toBe(entries.length));

it.each(entries)('names files that exist, and a spec: $name', ({ text }) => {
  const files = linksIn(line(text, 'Files'));
  const specs = linksIn(line(text, 'Tests'));
  expect(files).not.toEqual([]);
  expect(specs).not.toEqual([]);
  expect(specs.filter((spec) => !spec.endsWith('.spec.ts'))).toEqual([]);
  expect(linksIn(text).filter((link) => !existsSync(join('docs', link)))).toEqual([]);
});
