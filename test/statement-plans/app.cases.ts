import {
  all,
  call,
  consumer,
  fresh,
  mayRead,
  numbers,
  today,
  uuid,
  uuids,
  yesterday,
  type StatementCases,
} from './statement-case.js';

const times = all(today);
const exported = mayRead(Infinity, 'an export passes over all users, and is told before how many they are');
const part = mayRead(1_000, 'it looks at 1,000 users');
const datas = numbers.map((n) => JSON.stringify({ userId: String(10 * n + 3), other: 1 }));

export const appCases: StatementCases = {
  'idempotency-key-remember': call('new', 'f', '{}'),
  'idempotency-key-recall': call('m-3'),

  'workflow-directory-upsert': call(uuids(), all('w'), all('running'), times, all(null), times, all('{}')),
  'workflow-sample': {
    ...call(['running', 'completed']),
    ...mayRead(20_000, 'it counts up to its mark of each state'),
  },
  'workflow-timer-insert': call(uuids(2_000_000), all('t'), all(1_000)),
  'workflow-timer-remove': call(uuids()),
  'workflow-timer-take': call(500),
  'workflow-timer-due': call(),
  'workflow-timer-due-at': call(uuid(3), ['t', 'u']),
  'workflow-wait-match': call(uuid(3), uuids()),
  'workflow-start-failed': call(consumer, 'key-3', 'type-3', ['type-4']),
  'workflow-start-failed-by-id': call(consumer, 'm-3'),
  'workflow-start-waiting': {
    ...call([consumer], 'type-3', ['type-4']),
    ...mayRead(10_000, 'it looks through 1,000 dead letters of each kind'),
  },
  'workflow-wait-insert': call(uuids(2_000_000), uuids(), all('type-3'), datas),
  'workflow-wait-remove': call(uuids()),
  'workflow-wait-find': call('type-3', datas),

  'user-directory-insert': call(uuids(2_000_000), all('e'), all('n'), times, all(1)),
  'user-directory-status': call('verified', uuids(), all(2)),
  'user-directory-find': call(uuid(3)),
  'user-directory-recipients': [
    { when: 'of all times', values: ['-infinity', 'infinity'] },
    { when: 'of a day', values: [yesterday, 'infinity'] },
  ],
  'user-export-count': [
    { when: 'of all', values: [null], ...exported },
    { when: 'of one status', values: ['deactivated'], ...exported },
  ],
  'user-export-copy': [
    { when: 'of all', values: [null, uuid(3), 'new', 1_000], ...part },
    { when: 'of one status', values: ['deactivated', uuid(3), 'new', 1_000], ...part },
  ],
  'user-export-part': call('m-3', ''),
  'email-claim': call('new', uuid(2_000_000), 60),
  'email-reserve': call(fresh, uuids(2_000_000)),
  'email-release': call(uuids()),
};
