import type { Handler } from './simulated-service.js';

/** What was asked of the service. */
export interface Asked {
  readonly id: string;
  readonly key: string;
  /** It fits its schema. */
  readonly valid: boolean;
  readonly wantsReply: boolean;
}

export interface Effect {
  readonly handler: Handler;
  readonly message: string;
  readonly key: string;
}

/** What is there when all has come to rest. */
export interface Observation {
  /** In the order of their transactions, as far as they are of the same key. */
  readonly effects: readonly Effect[];
  /** Ids of commands that were refused and recorded. */
  readonly discarded: readonly string[];
  readonly deadLetters: readonly string[];
  readonly inboxRows: number;
  /** Names of the events in the log of the broker, `key#sequence`, partition by partition. */
  readonly log: readonly string[];
}

/** What is not as promised; nothing when all is well. */
export function problemsOf(asked: readonly Asked[], seen: Observation): string[] {
  const valid = asked.filter((command) => command.valid);
  const idsOf = (commands: readonly Asked[]) => commands.map(({ id }) => id);
  const keys = [...new Set(valid.map(({ key }) => key))];
  const events = keys.flatMap((key) =>
    valid.filter((command) => command.key === key).map((_, at) => `${key}#${at + 1}`),
  );
  const effectsOf = (handler: Handler) => seen.effects.filter((effect) => effect.handler === handler);
  const namesOf = (handler: Handler) => effectsOf(handler).map(({ message }) => message);
  const inOrder = effectsOf('ordered');
  return [
    ...eachOnce('command', idsOf(valid), namesOf('place')),
    ...eachOnce('refused command', idsOf(asked.filter((command) => !command.valid)), seen.discarded),
    ...eachOnce('reply', idsOf(asked.filter(({ wantsReply }) => wantsReply)), namesOf('reply')),
    ...eachOnce('event of the ordered consumer', events, namesOf('ordered')),
    ...eachOnce('event of the reactor', events, namesOf('reactor')),
    ...eachOnce(
      'follow-up',
      events.map((event) => `note ${event}`),
      namesOf('note'),
    ),
    ...keys.flatMap((key) =>
      rising(
        'effects',
        inOrder.filter((effect) => effect.key === key).map(({ message }) => message),
      ),
    ),
    // Later copies are the business of whoever reads.
    ...keys.flatMap((key) =>
      rising(
        'log',
        [...new Set(seen.log)].filter((event) => event.startsWith(`${key}#`)),
      ),
    ),
    ...seen.deadLetters.map((id) => `dead letter: ${id}`),
    ...inboxProblem(seen.effects.length - inOrder.length, seen.inboxRows),
  ];
}

function eachOnce(what: string, expected: readonly string[], seen: readonly string[]): string[] {
  const counts = new Map(expected.map((name) => [name, 0]));
  for (const name of seen) counts.set(name, (counts.get(name) ?? 0) + 1);
  const wanted = new Set(expected);
  return [...counts].flatMap(([name, count]) => {
    if (count === (wanted.has(name) ? 1 : 0)) return [];
    return [`${what} ${name}: ${count} effects${wanted.has(name) ? '' : ', nobody asked for it'}`];
  });
}

function rising(what: string, events: readonly string[]): string[] {
  const sequences = events.map((event) => Number(event.split('#')[1]));
  if (sequences.every((sequence, at) => at === 0 || sequence > (sequences[at - 1] ?? 0))) return [];
  return [`order of ${what}: ${events.join(', ')}`];
}

const inboxProblem = (effects: number, rows: number): string[] =>
  effects === rows ? [] : [`the inbox has ${rows} rows for ${effects} effects`];
