import { services } from '@starter/contracts';
import type { Accepted } from './load.js';
import type { Observation } from './observation.js';

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
}

/** In MiB of resident memory: what no service passes, and what it may need on top of what it had at the start. */
const memoryLimit = 400;
const memoryGrowthLimit = 100;
/** Commands that a service may have in hand: its prefetch. */
const inHandLimit = 100;

function arrived({ streams, directory, mails }: Observation, { accepted }: Expected): string[] {
  const users = new Map(streams['user-service'].map((row) => [row.stream, row]));
  const mailed = new Set(mails.map(({ to }) => to));
  return firstOf(
    accepted.flatMap(({ userId, email }) => {
      const types = users.get(`user-${userId}`)?.types ?? [];
      const missing = ['user.registered', 'user.activated'].filter((type) => !types.includes(type));
      return [
        ...missing.map((type) => `user ${userId} has no ${type}`),
        ...(directory.get(userId) === 'active' ? [] : [`user ${userId} is not active in the directory`]),
        ...(mailed.has(email) ? [] : [`${email} got no mail`]),
      ];
    }),
  );
}

function once({ streams, directory, mails, workflows }: Observation, { accepted }: Expected): string[] {
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
  const perAddress = new Map<string, number>();
  for (const { to } of mails) perAddress.set(to, (perAddress.get(to) ?? 0) + 1);
  for (const [to, n] of perAddress) if (n > 1) problems.push(`${to} got ${n} different mails`);
  if (directory.size !== accepted.length) problems.push(`${directory.size} users for ${accepted.length} requests`);
  if (workflows.size !== accepted.length) problems.push(`${workflows.size} workflows for ${accepted.length} users`);
  return firstOf(problems);
}

function inSequence({ streams, records }: Observation): string[] {
  const problems: string[] = [];
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

function ended({ workflows }: Observation): string[] {
  return firstOf(
    [...workflows]
      .filter(([, state]) => state !== 'completed' && state !== 'failed')
      .map(([id, state]) => `workflow ${id} is ${state}`),
  );
}

function backToBase(seen: Observation, expected: Expected): string[] {
  const left = { outbox: seen.outbox, parked: seen.parked, ready: seen.ready, lag: seen.lag };
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

const twice = (values: readonly string[]): boolean => new Set(values).size < values.length;

const firstOf = (problems: readonly string[]): string[] =>
  problems.length > 5 ? [...problems.slice(0, 5), `and ${problems.length - 5} more`] : [...problems];
