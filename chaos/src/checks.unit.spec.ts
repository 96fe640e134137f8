import { invariants, type Expected } from './checks.js';
import type { Observation, StreamRow } from './observation.js';
import type { Samples } from './sampler.js';

const userId = 'ada';
const email = 'ada@example.com';
const expected: Expected = { accepted: [{ userId, email }], deadLetters: 0, workflows: [] };

const row = (stream: string, ...types: string[]): StreamRow => ({
  stream,
  types,
  events: types.length,
  first: 1,
  last: types.length,
});
const recordsOf = (topic: string, key: string, ...sequences: number[]) =>
  sequences.map((sequence) => ({ topic, key, sequence, id: `${key}-${sequence}` }));

/** What is seen when all is well: one user, all the way. */
const well: Observation = {
  streams: {
    'user-service': [row('user-ada', 'user.registered', 'user.activated')],
    'email-service': [row('email-1', 'email.requested', 'email.attempted', 'email.sent')],
    orchestrator: [row('workflow-1', 'workflow.started', 'workflow.completed')],
  },
  directory: new Map([[userId, 'active']]),
  workflows: new Map([['1', 'completed']]),
  mails: [{ to: email, messageId: '<1@example.com>' }],
  mailCopies: 1,
  records: [
    ...recordsOf('user-service.events', 'user-ada', 1, 2),
    ...recordsOf('email-service.events', 'email-1', 1, 2, 3),
    ...recordsOf('orchestrator.events', 'workflow-1', 1, 2),
  ],
  reported: new Map(),
  ...{ outbox: 0, parked: 0, ready: 0, deadLetters: 0, lag: 0, timers: 0, waits: 0 },
  processes: { 'user-service': { startMemory: 120, mostMemory: 150, mostInHand: 40 } },
  crashes: { 'user-service': 0 },
};

type Invariant = keyof typeof invariants;
const problemsOf = (invariant: Invariant, seen: Observation): string[] => invariants[invariant](seen, expected);
const withUser = (user: StreamRow): Observation => ({ ...well, streams: { ...well.streams, 'user-service': [user] } });
const withProcess = (samples: Partial<Samples>): Observation => ({
  ...well,
  processes: { 'user-service': { startMemory: 120, mostMemory: 150, mostInHand: 40, ...samples } },
});

it('finds nothing where all is well, second copies of records among them', () => {
  const copies = { ...well, records: [...well.records, ...recordsOf('user-service.events', 'user-ada', 1, 2)] };
  for (const invariant of Object.keys(invariants) as Invariant[]) {
    expect(problemsOf(invariant, well)).toEqual([]);
    expect(problemsOf(invariant, copies)).toEqual([]);
  }
});

// Every checker is worth only as much as the bug that it catches.
it.each<[Invariant, string, Observation, string]>([
  ['everything arrived', 'an event that was lost', withUser(row('user-ada', 'user.registered')), 'no user.activated'],
  ['everything arrived', 'a projection that missed one', { ...well, directory: new Map() }, 'not active'],
  ['everything arrived', 'a mail that was never sent', { ...well, mails: [] }, 'got no mail'],
  [
    'one effect each',
    'a command that took effect twice',
    withUser(row('user-ada', 'user.registered', 'user.activated', 'user.activated')),
    'twice',
  ],
  [
    'one effect each',
    'a second mail under another Message-ID',
    { ...well, mails: [...well.mails, { to: email, messageId: '<2@example.com>' }] },
    '2 different mails',
  ],
  [
    'one effect each',
    'a second workflow for one user',
    {
      ...well,
      workflows: new Map([
        ['1', 'completed'],
        ['2', 'completed'],
      ]),
    },
    '2 workflows, 1 expected',
  ],
  [
    'one effect each',
    'a user that nobody asked for',
    {
      ...well,
      directory: new Map([
        [userId, 'active'],
        ['eve', 'active'],
      ]),
    },
    '2 users',
  ],
  [
    'in sequence',
    'a gap in the log',
    withUser({ ...row('user-ada', 'user.registered', 'user.activated'), last: 3 }),
    'from 1 to 3',
  ],
  [
    'in sequence',
    'a record before its predecessor',
    { ...well, records: [...recordsOf('user-service.events', 'user-ada', 2, 1), ...well.records.slice(2)] },
    '2 comes after 0',
  ],
  [
    'in sequence',
    'an event that was not published',
    { ...well, records: well.records.slice(0, -1) },
    '1 of them on the topic',
  ],
  [
    'workflows ended',
    'a workflow that waits for ever',
    { ...well, workflows: new Map([['1', 'running']]) },
    'is running',
  ],
  ['back to base', 'a row that is never relayed', { ...well, outbox: 1 }, 'outbox: 1 left'],
  ['back to base', 'a message that became a dead letter', { ...well, deadLetters: 1 }, '1 dead letters, 0 expected'],
  ['back to base', 'a timer that nobody needs any more', { ...well, timers: 1 }, 'timers: 1 left'],
  ['back to base', 'a wait that nobody needs any more', { ...well, waits: 1 }, 'waits: 1 left'],
  ['back to base', 'an offset that is not committed', { ...well, lag: 2 }, 'lag: 2 left'],
  ['memory flat', 'memory that grows', withProcess({ mostMemory: 250 }), 'from 120 to 250 MiB'],
  ['memory flat', 'memory that is too much', withProcess({ startMemory: 390, mostMemory: 420 }), 'held 420 MiB'],
  ['memory flat', 'a window without a bound', withProcess({ mostInHand: 700 }), '700 commands in hand'],
  [
    'memory flat',
    'a process that ran out of memory',
    { ...well, crashes: { orchestrator: 2 } },
    'ended by itself 2 times',
  ],
])('%s: sees %s', (invariant, _, seen, problem) => {
  expect(problemsOf(invariant, seen).join('\n')).toContain(problem);
});

/** A workflow besides, which sends the user another mail and reports on it. */
const chord: Expected = {
  ...expected,
  workflows: [{ id: '2', end: 'completed', mailsTo: [email], order: ['sealed-1', 'sealed-2'] }],
};
const chordEnded = (end: string, reported: readonly string[], mails = 2): Observation => ({
  ...well,
  workflows: new Map([...well.workflows, ['2', end]]),
  reported: new Map([['2', reported]]),
  mails: Array.from({ length: mails }, (_, n) => ({ to: email, messageId: `<${n}@example.com>` })),
});

it.each<[Invariant, string, Observation, string]>([
  [
    'everything arrived',
    'a workflow that was lost',
    { ...chordEnded('completed', []), workflows: well.workflows },
    'never began',
  ],
  ['everything arrived', 'its mail that was lost', chordEnded('completed', [], 1), 'got 1 of 2 mails'],
  ['one effect each', 'its mail that came twice', chordEnded('completed', [], 3), 'got 3 different mails'],
  ['in sequence', 'results that changed places', chordEnded('completed', ['sealed-2', 'sealed-1']), 'not in order'],
  ['workflows ended', 'the wrong end', chordEnded('failed', []), 'was to have completed'],
])('%s, with workflows: sees %s', (invariant, _, seen, problem) => {
  expect(invariants[invariant](chordEnded('completed', ['sealed-1', 'sealed-2']), chord)).toEqual([]);
  expect(invariants[invariant](seen, chord).join('\n')).toContain(problem);
});
