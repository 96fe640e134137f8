import { all, call, fresh, json, mayRead, numbers, own, uuid, uuids, type StatementCases } from './statement-case.js';

const streams = numbers.map((n) => `user-${String(n).padStart(6, '0')}`);
const event = (stream: string, sequence: number, id: number) => ({
  ...{
    stream_id: stream,
    sequence,
    id: uuid(id),
    type: 't',
    version: 1,
    data: {},
    correlation_id: 'c',
    causation_id: null,
  },
  ...{ command: 'c', recorded_at: '2026-01-01T00:00:00Z' },
});
const listed = mayRead(Infinity, 'it compares all streams that have moved since a pass of a rebuild began');
const whole = mayRead(
  Infinity,
  'an operator has a projection rebuilt, or an archive restored, which passes over all there is',
);
/** A snapshot that has seen all events. */
const nothingSince = '9000000000:9000000000:';
const lines = [numbers.map((n) => JSON.stringify(event(`gone-${String(n).padStart(6, '0')}`, 5, 2_000_000 + n)))];

export const eventSourcingCases: StatementCases = {
  'actor-turns': call(streams),
  'inbox-forget': call(
    all('c3'),
    numbers.map((n) => `m-${10 * n + 3}`),
  ),
  'event-load': call(streams, all(0), 5_000),
  'event-append': call(
    ...[
      streams,
      all(11),
      uuids(2_000_000),
      all('t'),
      all(1),
      json({}),
      all('c'),
      all('c'),
      all('c'),
      all('2026-01-01'),
      all(true),
    ],
  ),
  'event-append-one': call('user-000003', 11, uuid(2_000_001), 't', 1, '{}', 'c', 'c', 'c', '2026-01-01', true),
  'history-bounds': call('user-000003', 'infinity'),
  'snapshot-load': call(streams, all(1)),
  'snapshot-save': call(streams, all(1), all(10), uuids(), all('{}')),
  'stream-window-page': call(streams, all(0), 5),
  'archived-stream': call('gone-000003'),
  'archived-streams': { ...call(), ...whole },
  'archive-remove': call(streams, all(9), all(10), 'f'),
  'restore-foreign': call(...lines),
  'restore-insert': call(...lines),
  'restore-settle': { ...call(), ...whole },
  'rebuild-streams': call('user-000003', 500),
  'rebuild-advance': call(fresh, all(10)),
  'rebuild-snapshot': call(),
  'rebuild-list-moved': call(1_000, nothingSince),
  'rebuild-listed': call(1, '', 500),
  'rebuild-compare-all': { ...call('c3', 1_000), ...whole },
  'rebuild-compare-listed': { ...call('c3', 1_000, [99]), ...listed },
  'inbox-sequence-take-over': call('c3', own('key-'), all(30)),
};
