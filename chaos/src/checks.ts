import { services } from '@starter/contracts';
import type { Accepted } from './load.js';
import type { Observation } from './observation.js';
import type { ExpectedWorkflow } from './fault.js';

/** What must hold after every fault; each returns what is wrong, at most a few lines, or nothing. */
export const invariants = {
  /** Every committed message reached every consumer. */
  'everything arrived': arrived,
  /** One effect per handler and message. */
  'one effect each': once,
  /** Sequences per key without gaps and rising, in the logs and on the topics. */
  'in sequence': inSequence,
  'workflows ended': ended,
  /** Nothing is left in outboxes, queues and parking. */
  'back to base': backToBase,
  /** A process gets along with a fixed amount, whatever piles up elsewhere; nor does one end that nobody has ended. */
  'memory flat': memoryFlat,
} satisfies Record<string, (seen: Observation, expected: Expected) => string[]>;

export interface Expected {
  readonly accepted: readonly Accepted[];
  /** Dead letters that the faults have made on purpose. */
  readonly deadLetters: number;
  /** Those that the faults have started; each user has one besides. */
  readonly workflows: readonly ExpectedWorkflow[];
}

/** In MiB of resident memory: what no service passes, and what it may need on top of what it had at the start. */
const memoryLimit = 400;
const memoryGrowthLimit = 100;
/** Commands that a service may have in hand: its prefetch. */
const inHandLimit = 100;

function arrived({ streams, directory, mails, workflows }: Observation, expected: Expected): string[] {
  const { accepted } = expected;
  const users = new Map(streams['user-service'].map((row) => [row.stream, row]));
  const mailed = countOf(mails.map(({ to }) => to));
  const wanted = mailsWanted(expected);
  return firstOf([
    ...accepted.flatMap(({ userId, email }) => {
      const types = users.get(`user-${userId}`)?.types ?? [];
      const missing = ['user.registered', 'user.activated'].filter((type) => !types.includes(type));
      return [
        ...missing.map((type) => `user ${userId} has no ${type}`),
        ...(directory.get(userId) === 'active' ? [] : [`user ${userId} is not active in the directory`]),
        ...mailsMissing(email, mailed.get(email) ?? 0, wanted.get(email) ?? 0),
      ];
    }),
    ...expected.workflows.filter(({ id }) => !workflows.has(id)).map(({ id }) => `workflow ${id} never began`),
  ]);
}

const mailsMissing = (email: string, got: number, wanted: number): string[] =>
  got >= wanted ? [] : [`${email} got ${got === 0 ? 'no mail' : `${got} of ${wanted} mails`}`];

function once({ streams, directory, mails, workflows }: Observation, expected: Expected): string[] {
  const { accepted } = expected;
  const problems: string[] = [];
  for (const { stream, types } of streams['user-service']) {
    if (twice(types)) problems.push(`${stream} has an event twice: ${types.join(', ')}`);
  }
  for (const { stream, types } of streams['email-service']) {
    const sent = types.filter((type) => type === 'email.sent' || type === 'email.failed');
    if (sent.length > 1) problems.push(`${stream} has more than one outcome`);
  }
  for (const { stream, types } of streams.orchestrator) {
    const terminal = types.filter((type) => type === 'workflow.completed' || type === 'workflow.failed');
    const starts = types.filter((type) => type === 'workflow.started');
    if (terminal.length > 1 || starts.length !== 1) problems.push(`${stream} began or ended more than once`);
  }
  const wanted = mailsWanted(expected);
  for (const [to, n] of countOf(mails.map((mail) => mail.to))) {
    if (n > (wanted.get(to) ?? 1)) problems.push(`${to} got ${n} different mails`);
  }
  if (directory.size !== accepted.length) problems.push(`${directory.size} users for ${accepted.length} requests`);
  const started = accepted.length + expected.workflows.length;
  if (workflows.size !== started) problems.push(`${workflows.size} workflows, ${started} expected`);
  return firstOf(problems);
}

function inSequence({ streams, records, reported }: Observation, expected: Expected): string[] {
  const problems = expected.workflows.flatMap(({ id, order }) => {
    const came = reported.get(id);
    return order && came && order.join() !== came.join() ? [`the results of workflow ${id} are not in order`] : [];
  });
  for (const service of services) {
    for (const { stream, events, first, last } of streams[service]) {
      if (first !== 1 || last !== events) problems.push(`${stream} has ${events} events from ${first} to ${last}`);
    }
  }
  // A record may come twice; what is new comes in its place.
  const seen = new Map<string, number>();
  const known = new Set(services.flatMap((service) => streams[service].map(({ stream }) => stream)));
  for (const { topic, key, sequence } of records) {
    // Strangers are what the faults have published themselves.
    if (sequence === undefined || !known.has(key)) continue;
    const place = `${topic} ${key}`;
    const last = seen.get(place) ?? 0;
    if (sequence > last + 1) problems.push(`${place}: ${sequence} comes after ${last}`);
    seen.set(place, Math.max(last, sequence));
  }
  for (const service of services) {
    for (const { stream, last } of streams[service]) {
      const published = seen.get(`${service}.events ${stream}`) ?? 0;
      if (published !== last) problems.push(`${stream} has ${last} events, ${published} of them on the topic`);
    }
  }
  return firstOf(problems);
}

function ended({ workflows }: Observation, expected: Expected): string[] {
  const ends = expected.workflows.map(({ id, end }) => [id, end, workflows.get(id)] as const);
  return firstOf([
    ...[...workflows]
      .filter(([, state]) => state !== 'completed' && state !== 'failed')
      .map(([id, state]) => `workflow ${id} is ${state}`),
    ...ends
      .filter(([, end, state]) => (state === 'completed' || state === 'failed') && state !== end)
      .map(([id, end, state]) => `workflow ${id} has ${state}, and was to have ${end}`),
  ]);
}

function backToBase(seen: Observation, expected: Expected): string[] {
  const left = {
    outbox: seen.outbox,
    parked: seen.parked,
    ready: seen.ready,
    lag: seen.lag,
    timers: seen.timers,
    waits: seen.waits,
  };
  return [
    ...Object.entries(left).flatMap(([what, n]) => (n === 0 ? [] : [`${what}: ${n} left`])),
    ...(seen.deadLetters === expected.deadLetters
      ? []
      : [`${seen.deadLetters} dead letters, ${expected.deadLetters} expected`]),
  ];
}

function memoryFlat({ processes, crashes }: Observation): string[] {
  const ended = Object.entries(crashes).filter(([, times]) => times > 0);
  const grown = Object.entries(processes).flatMap(([name, { startMemory, mostMemory, mostInHand }]) => [
    ...(mostMemory < memoryLimit ? [] : [`${name} held ${Math.round(mostMemory)} MiB`]),
    ...(mostMemory - startMemory < memoryGrowthLimit
      ? []
      : [`${name} grew from ${Math.round(startMemory)} to ${Math.round(mostMemory)} MiB`]),
    ...(mostInHand <= inHandLimit ? [] : [`${name} had ${mostInHand} commands in hand`]),
  ]);
  return [...grown, ...ended.map(([name, times]) => `${name} ended by itself ${times} times; read its log`)];
}

/** By address. */
function mailsWanted({ accepted, workflows }: Expected): ReadonlyMap<string, number> {
  return countOf([...accepted.map(({ email }) => email), ...workflows.flatMap(({ mailsTo }) => mailsTo)]);
}

function countOf(values: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

const twice = (values: readonly string[]): boolean => new Set(values).size < values.length;

const firstOf = (problems: readonly string[]): string[] =>
  problems.length > 5 ? [...problems.slice(0, 5), `and ${problems.length - 5} more`] : [...problems];
