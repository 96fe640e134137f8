/** Every edge between the database and a broker, by the side on which the process ends, and the handler of a message. */
export const failpoints = [
  'transaction.before-commit',
  'transaction.after-commit',
  'outbox.before-publish',
  'outbox.before-confirm',
  'outbox.after-confirm',
  'outbox.after-delete',
  'message.handling',
  'command.before-ack',
  'event.before-offset',
  'email.after-send',
] as const;
export type Failpoint = (typeof failpoints)[number];

const actions = {
  /** As a power cut would: nothing is flushed, closed or told. */
  kill: () => process.kill(process.pid, 'SIGKILL'),
  /** Still there, but frozen until somebody sends SIGCONT. */
  stop: () => process.kill(process.pid, 'SIGSTOP'),
  throw: (point: Failpoint) => {
    throw new Error(`the failpoint ${point} was told to throw`);
  },
} satisfies Record<string, (point: Failpoint) => unknown>;

/**
 * Ends, freezes or fails this process where `FAILPOINT` says: `<point>:<kill|stop|throw>`, `<point>:kill@7` for the seventh time
 * that the point is passed, `message.handling=<message id>:kill` whenever that message is handled; several separated by commas.
 * Each of the others fires once.
 */
export const failpoint: Pass = failpointsOf(process.env['FAILPOINT']);

/** `subject` is the id of the message, where a point is about one. */
type Pass = (point: Failpoint, subject?: string) => void;

/** The same a moment later, when what was written before has left the process. */
export const failpointSoon: (point: Failpoint) => void = process.env['FAILPOINT']
  ? (point) => void setTimeout(() => failpoint(point), 1)
  : () => undefined;

/** @throws Error naming what may be written */
export function failpointsOf(specification: string | undefined): Pass {
  // An empty function is inlined: an unarmed failpoint costs nothing.
  if (!specification) return () => undefined;
  const armed = new Set(specification.split(',').map(parse));
  return (point, subject) => {
    for (const one of armed) {
      if (one.point !== point || (one.subject ?? subject) !== subject || --one.passes > 0) continue;
      if (one.subject === undefined) armed.delete(one);
      one.act(point);
    }
  };
}

interface Armed {
  readonly point: Failpoint;
  readonly subject: string | undefined;
  readonly act: (point: Failpoint) => unknown;
  /** Until it fires. */
  passes: number;
}

function parse(text: string): Armed {
  const [, name, subject, action, passes = '1'] =
    /^\s*([\w.-]+)(?:=([\w-]+))?:(\w+)(?:@([1-9]\d*))?\s*$/.exec(text) ?? [];
  const point = failpoints.find((known) => known === name);
  if (!point || !action || !isAction(action)) {
    const known = `${Object.keys(actions).join(' or ')} at ${failpoints.join(', ')}`;
    throw new Error(`FAILPOINT holds "${text}"; write <point>:<action> or <point>:<action>@<n>, with ${known}`);
  }
  return { point, subject, act: actions[action], passes: Number(passes) };
}

// Hoisted, because the failpoints of this process are read before this line is reached.
function isAction(text: string): text is keyof typeof actions {
  return Object.hasOwn(actions, text);
}
