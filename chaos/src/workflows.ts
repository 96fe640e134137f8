import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from './database.js';
import type { ExpectedWorkflow, Fault, FaultContext } from './fault.js';
import type { Accepted } from './load.js';

/** Somebody to write to: sealed, as user-service has published it. */
interface Recipient {
  readonly userId: string;
  readonly to: string;
  readonly name: string;
}

const recipientsQuery = `
  SELECT data->>'userId' AS "userId", data->>'email' AS "to", data->>'name' AS name
    FROM event WHERE type = 'user.registered' LIMIT 10`;

export const workflowsUnderKills: Fault = {
  name: 'workflows started over HTTP, services killed at random',
  killShare: 1,
  inject: async (context) => {
    const recipients = await recipientsOf(context);
    const total = Math.ceil(200 * context.scale);
    let next = 0;
    const starting = Array.from({ length: 4 }, async () => {
      for (let n = next++; n < total; n = next++) await startOne(context, n, recipients);
    });
    await Promise.all([killAtRandom(context), ...starting]);
  },
};

async function killAtRandom({ system, random, kills }: FaultContext): Promise<void> {
  for (let n = 0; n < kills; n++) {
    await sleep(100 * random.upTo(20));
    random.of(system.instances.filter(({ wanted }) => wanted)).kill();
  }
}

/** Once over HTTP, by a client that does not give up. */
async function startOne({ system, workflows, random }: FaultContext, n: number, all: readonly Known[]): Promise<void> {
  const shape = shapes[n % shapes.length];
  if (!shape) return;
  const people = random.shuffled(all).slice(0, 3);
  const [a, b, c] = people;
  if (!a || !b || !c) throw new Error('too few users have registered: let the load run for longer');
  const { definition, mailsTo, ...rest } = shape(a, b, c);
  for (let attempt = 0; ; attempt++) {
    const instances = system.instancesOf('orchestrator');
    const response = await fetch(`${instances[attempt % instances.length]?.url}/workflows`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': `chaos-${random.seed}-${n}` },
      body: JSON.stringify({ workflow: 'chaos', definition, input: {} }),
      signal: AbortSignal.timeout(5_000),
    }).catch(() => undefined);
    if (response?.status === 202) {
      const { workflowId: id } = (await response.json()) as { workflowId: string };
      workflows.push({ id, mailsTo: mailsTo.map(({ email }) => email), ...rest });
      return;
    }
    if (response && response.status < 500) throw new Error(`${response.status} ${await response.text()}`);
    await sleep(200);
  }
}

interface Known extends Recipient {
  readonly email: string;
}

async function recipientsOf({ system, accepted }: FaultContext): Promise<Known[]> {
  for (;;) {
    const recipients = await ask<Recipient>(system.databaseOf('user-service'), recipientsQuery);
    const emails = new Map<string, Accepted>(accepted.map((one) => [one.userId, one]));
    const known = recipients.flatMap((one) => {
      const email = emails.get(one.userId)?.email;
      return email === undefined ? [] : [{ ...one, email }];
    });
    if (known.length >= 3) return known;
    await sleep(200);
  }
}

interface Shape extends Omit<ExpectedWorkflow, 'id' | 'mailsTo'> {
  readonly definition: object;
  readonly mailsTo: readonly Known[];
}

const mail = ({ to, name }: Recipient) => ({
  ...{ kind: 'task', command: 'email.send', version: 1 },
  input: { to, template: 'newsletter', variables: { name } },
});
const nobody = '00000000-0000-4000-8000-000000000000';
/** Is refused: there is no such user. */
const failing = { kind: 'task', command: 'user.activate', version: 1, key: 'userId', input: { userId: nobody } };
const report = (path: string) => ({
  ...{ kind: 'task', command: 'campaign.complete', version: 1, key: 'campaignId' },
  input: { campaignId: crypto.randomUUID(), name: 'chaos', results: { $ref: `results.${path}` } },
});
const chain = (...steps: object[]) => ({ kind: 'chain', steps });
const group = (policy: unknown, ...members: object[]) => ({ kind: 'group', policy, members });

const shapes: readonly ((a: Known, b: Known, c: Known) => Shape)[] = [
  (a, b) => ({
    definition: chain(mail(a), { kind: 'sleep', duration: '1s' }, mail(b)),
    end: 'completed',
    mailsTo: [a, b],
  }),
  (a, b, c) => ({ definition: group('waitAll', mail(a), mail(b), mail(c)), end: 'completed', mailsTo: [a, b, c] }),
  // A chord.
  (a, b, c) => ({
    definition: chain(group('failFast', mail(a), mail(b), mail(c)), report('0.0')),
    end: 'completed',
    mailsTo: [a, b, c],
    order: [a.to, b.to, c.to],
  }),
  // What was done is undone, with an e-mail.
  (a, b) => ({ definition: chain({ ...mail(a), compensateWith: mail(b) }, failing), end: 'failed', mailsTo: [a, b] }),
  (a) => ({ definition: group({ minSuccess: 1 }, mail(a), failing), end: 'completed', mailsTo: [a] }),
];
