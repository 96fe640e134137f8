import {
  all,
  call,
  consumer,
  fresh,
  json,
  mayRead,
  numbers,
  own,
  today,
  uuid,
  yesterday,
  type StatementCases,
} from './statement-case.js';

const holder = uuid(1);
const one = 'm-3';
const shards = Array.from({ length: 16 }, (_, shard) => shard);
const message = { id: 'new', type: 'type-3', data: {} };
const origins = JSON.stringify(
  numbers.map((n) => ({
    position: String(2_000_000 + n),
    channel: 'command',
    exchange: '',
    address: 'q',
    orderingKey: 'k',
  })),
);
const states = ['PENDING', 'STARTED', 'PROGRESS', 'RETRY', 'SUCCESS', 'FAILURE', 'REVOKED'];
const room = '100,000 (maxParked)';
const heads = mayRead(200_000, `it looks at the first that is parked of each key, at most ${room} of a consumer`);
const rates = [
  ['type-3', 'type-4'],
  [10, 10],
  [0, 0],
  [1_000, 1_000],
  [10, 10],
];

export const messagingCases: StatementCases = {
  // database, processes
  'try-exclusive': call('rebuild'),
  'process-enter': call(consumer, uuid(99)),
  'process-leave': call(consumer, uuid(3)),
  'process-others': call(consumer, uuid(3)),
  'process-outlive': call(consumer, uuid(3)),
  'purge-lock': call('inbox'),
  'backlog-rows': { ...call(), ...mayRead(20_000, 'it counts up to 100,000 rows of each kind') },

  // inbox
  'inbox-insert': call(all(consumer), fresh),
  'inbox-discard': call(consumer, 'event', fresh, all('t'), all('k'), all(1), all('r'), all('{}'), all(true)),
  'inbox-discarded-restore': call(all(consumer), own('m-')),
  'suspect-mark': call(consumer, fresh),
  'suspect-start': call(consumer, one),
  'suspect-clear': call(consumer, own('m-')),
  'suspect-acquit': call(all(consumer), own('m-')),

  // order
  'inbox-hold-consumer': call(consumer),
  'inbox-sequence-advance': call(
    consumer,
    [...own('key-', 20_000), ...fresh],
    all(11).concat(all(1)),
    all(12).concat(all(2)),
  ),
  'inbox-sequence-select': call(consumer, own('key-')),
  'inbox-sequence-reached': call(consumer, own('key-')),
  'inbox-sequence-set': call(consumer, own('key-'), all(30), all(30)),
  'inbox-parked-select': call(consumer, own('key-'), all(12)),
  'inbox-park': call(
    ...[
      consumer,
      own('key-', 20_000),
      all(13),
      all('{}'),
      all(0),
      all(0),
      all(null),
      all(null),
      all(null),
      fresh,
      all('t'),
    ],
  ),
  'inbox-parked-hold': call(consumer, 'key-3', 12),
  'inbox-unpark': call(consumer, own('key-'), all(13)),
  'inbox-parked-ready': call(consumer, own('key-'), 100),
  'inbox-parked-keys': { ...call(consumer, 100), ...heads },
  'inbox-parked-count': {
    ...call(consumer),
    ...mayRead(2_000, `it counts what is parked, at most ${room} of a consumer`),
  },
  'inbox-gap-record': { ...call(consumer, 60_000), ...heads },
  'inbox-gap-report': call(consumer, 60_000, 100),
  'inbox-gap-open': call(100),
  'inbox-gap-open-of-consumer': call(100, consumer),
  'inbox-gap-count': {
    ...call(consumer),
    ...mayRead(2_000, 'it counts the gaps, of which a consumer has at most as many as it has parked messages'),
  },
  'inbox-gap-head': call(consumer, 'key-3'),
  'inbox-skip': call(consumer, 'key-3', 11, 11, 'r'),
  'inbox-skip-record': call(consumer, own('key-'), all(11), all(11), 'r'),
  'inbox-gap-keys': [
    { when: 'of all times', values: [consumer, null, 100] },
    { when: 'of old ones', values: [consumer, yesterday, 100] },
  ],
  'inbox-skip-many': call(consumer, own('key-'), 'r'),

  // dead letters
  'dead-letters-lock': call(),
  'dead-letter-insert': call(
    ...[consumer, 'event', fresh, all('t'), all('k'), all(1), all('E'), all('r'), all('o'), all(1), all(today)],
    ...[all('{}'), all(null), all(null), all(true), all(0), all(null)],
  ),
  'dead-letter-take': call(consumer, 20),
  'dead-letter-due': call(consumer),
  'dead-letter-keep': call(consumer, own('m-')),
  'dead-letter-later': call(consumer, 'm-3', 0, 2, 60_000),
  'dead-letter-reopen': call(consumer, 'm-3', 0, 2, 'r', 'E', null),
  'dead-letter-remove': call(consumer, 'm-3', 0),
  'dead-letter-take-out': call(consumer, 'm-3'),
  'dead-letter-schedule': call(consumer, 'new', 't', 'k', 1, 'r', 'o', 1, '{}', 60_000),
  'dead-letters-redrive': call(all(consumer), own('m-', 10)),
  'dead-letters-delete': call(all(consumer), own('m-', 10)),
  'dead-letters-redrive-parked': call(all(consumer), own('key-'), all(11)),

  // outbox
  'outbox-insert': call(all('command'), all(''), all('q'), fresh, json(message)),
  'outbox-insert-and-tell': call(all('command'), all(''), all('q'), fresh, json(message), holder),
  'outbox-insert-again': call(origins, json(message), all(1)),
  'outbox-read': call(
    [0],
    [100],
    [100],
    all(0),
    all('address-2'),
    shards,
    shards.map(() => 0),
    [],
    [],
  ),
  'outbox-places': call(shards, '', [], 1_000),
  'outbox-delete': call(
    all(2),
    all('address-2'),
    numbers.map((n) => 50 * n + 2),
    all(1),
  ),
  'outbox-refused': call(
    all(2),
    all('address-2'),
    numbers.map((n) => 50 * n + 2),
    all(1),
    all('E'),
    all('r'),
    all(3),
  ),
  'outbox-horizon': call(),
  'outbox-backlog': { ...call(50_001, []), ...mayRead(5_000, 'it counts up to the mark of 50,000 rows') },
  'outbox-held': call(),
  'outbox-redriven': call(own('m-')),
  'outbox-rest': call(holder),
  'outbox-ring': call(holder),
  'outbox-relay-beat': call(holder, 10_000, false, true),
  'outbox-relay-leave': call(holder),
  'outbox-lease-take': call(holder, 10_000, 8),
  'outbox-lease-give-up': call(holder, [1, 2]),

  // personal data
  'personal-key-create': call('s1', fresh, all('k'), all('{}'), 'keys'),
  'personal-key-learn': call(all('s1'), fresh, all('k')),
  'personal-key-find': call(all('s1'), own('user-')),
  'personal-key-erase': call(all('s1'), own('user-', 60_000)),
  'personal-key-any': call(),

  // rate limits
  'rate-limits': call(),
  'rate-limit-set': call('type-3', '10/s'),
  'rate-limit-clear': call('type-3'),
  'rate-limit-waiting': { ...call(), ...mayRead(20_000, 'it counts up to 10,000 that wait of each type') },
  'rate-limit-ensure': call(['type-3', 'new']),
  'rate-limit-grant-new': call(...rates),
  'rate-limit-lock': call(['type-3', 'type-4']),
  'rate-limit-grant-waiting': call(...rates),
  'rate-limit-admit': call(['type-3', 'type-4'], [20, 20]),
  'rate-limit-waiting-types': call(),
  'rate-limit-wait': call(all('type-3'), fresh, all('q'), all(1), json(message)),
  'rate-limit-expect-retry': call(all('type-3'), fresh, all('q'), all(2)),
  'rate-limit-pass': call(
    all('type-3'),
    numbers.map((n) => `m-${20 * n + 3}`),
  ),

  // tasks
  'task-begin': call(all(consumer), all(1), all('w'), fresh, json(message)),
  'task-succeed': call('m-999999', 1, consumer, '{}'),
  'task-end-revoked': call('m-999999', 1, consumer, '{}'),
  'task-fail': call('m-999999', 1, 'RETRY', 'r', 1_000),
  'task-holds-run': call('m-999999', 1),
  'task-save-state': call(
    numbers.map((n) => `m-${999_900 + n}`),
    all(1),
    json({}),
  ),
  'task-pulse': call(
    numbers.map((n) => `m-${999_900 + n}`),
    all(1),
    all(true),
    json({ current: 1 }),
  ),
  'task-select': call(own('m-')),
  'task-list': [
    { when: 'from the newest on', values: [20, null, states] },
    { when: 'further on', values: [20, one, states] },
    { when: 'of a rare state', values: [20, null, ['FAILURE']] },
    { when: 'of a frequent state, further on', values: [20, 'm-500003', ['SUCCESS']] },
    { when: 'of a state that none has', values: [20, null, ['PENDING']] },
  ],
  'task-list-of-type': [
    { when: 'of a rare type', values: [20, null, states, 'rare'] },
    { when: 'of a frequent type', values: [20, null, states, 'type-3'] },
    { when: 'further on', values: [20, 'm-500003', states, 'type-3'] },
    { when: 'of a rare state', values: [20, null, ['FAILURE'], 'type-3'] },
  ],
  'task-active': call(1_000),
  'task-scheduled': call(),
  'task-revoke': call('m-999999', true, 'r'),
};
