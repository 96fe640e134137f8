import { Presets, SingleBar } from 'cli-progress';
import type { DataSource } from 'typeorm';
import type { MailCatcher } from './mail-catcher.js';
import { MailReader } from './mail-reader.js';
import type { DemoUser } from './users-file.js';

export interface Registration {
  readonly user: DemoUser;
  readonly userId: string;
  /** Also the correlation of what follows, up to the verification. */
  readonly commandId: string;
}

export interface Refusal {
  readonly user: DemoUser;
  readonly problem: string;
}

export interface Played {
  readonly accepted: readonly Registration[];
  /** Ids of the commands that verified the addresses, by user; the correlation of what followed. */
  readonly verified: ReadonlyMap<string, string>;
  readonly refused: readonly Refusal[];
  /** Requests sent a second time with the same key, and answered with the first answer. */
  readonly repeatedRequests: number;
  readonly registered: number;
  readonly active: number;
  readonly deactivated: number;
  readonly mails: number;
  readonly seconds: number;
}

export interface Scenario {
  readonly users: readonly DemoUser[];
  readonly userServiceUrl: string;
  /** A token with the role `client`. */
  readonly token: string;
  readonly userDatabase: DataSource;
  readonly catcher: MailCatcher;
}

/** Requests under way at once. */
const concurrency = 32;
/** Every so many requests one is sent twice, as an impatient client would. */
const repeatEvery = 20;
/** Nothing has moved for so long: what is missing will not come. */
const patienceMs = 30_000;

/** Registers everybody over HTTP, verifies the addresses with the codes in the mails, and waits until each is active and has a mail. */
export async function play(scenario: Scenario): Promise<Played> {
  const { users } = scenario;
  const since = performance.now();
  const accepted: Registration[] = [];
  const refused: Refusal[] = [];
  const reader = new MailReader(scenario.catcher, () => [scenario.userServiceUrl]);
  let repeatedRequests = 0;
  const bar = new SingleBar(
    {
      format:
        '{bar} {percentage} % | registered {registered} | e-mails {mails} | active {value}/{total} | {duration_formatted}',
    },
    Presets.shades_classic,
  );
  bar.start(users.length, 0, { registered: 0, mails: 0 });

  const queue = users.entries();
  const registerNext = async (): Promise<void> => {
    for (const [index, user] of queue) {
      const result = await register(scenario, user);
      if ('problem' in result) refused.push(result);
      else {
        accepted.push(result);
        reader.readFor(user.email, result.userId);
      }
      if (index % repeatEvery !== 0 || 'problem' in result) continue;
      const again = await register(scenario, user);
      if ('userId' in again && again.userId === result.userId) repeatedRequests += 1;
    }
  };
  const requests = Promise.all(Array.from({ length: concurrency }, registerNext));
  const progress = await untilDone(scenario, requests, { accepted, refused }, ({ registered, mails, active }) =>
    bar.update(active, { registered, mails }),
  );
  await requests;
  reader.close();
  bar.stop();
  const { verified } = reader;
  return { accepted, verified, refused, repeatedRequests, ...progress, seconds: (performance.now() - since) / 1000 };
}

async function register({ userServiceUrl, token }: Scenario, user: DemoUser): Promise<Registration | Refusal> {
  const response = await fetch(`${userServiceUrl}/users`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      'idempotency-key': user.idempotencyKey,
    },
    body: JSON.stringify({ email: user.email, name: user.name }),
  });
  if (response.status !== 202) return { user, problem: `${response.status} ${await response.text()}` };
  return { user, ...((await response.json()) as { userId: string; commandId: string }) };
}

interface Progress {
  readonly registered: number;
  /** Their welcome failed for good and was compensated. */
  readonly deactivated: number;
  readonly active: number;
  readonly mails: number;
}

async function untilDone(
  { users, userDatabase, catcher }: Scenario,
  requests: Promise<unknown>,
  { accepted, refused }: Pick<Played, 'accepted' | 'refused'>,
  report: (progress: Progress) => void,
): Promise<Progress> {
  const addresses = new Set(users.map(({ email }) => email.toLowerCase()));
  let sent = false;
  requests.then(
    () => (sent = true),
    () => (sent = true),
  );
  let last = '';
  let movedAt = performance.now();
  for (;;) {
    const [row] = await userDatabase.query<Omit<Progress, 'mails'>[]>(
      `SELECT count(*)::int AS registered,
              count(*) FILTER (WHERE status = 'active')::int AS active,
              count(*) FILTER (WHERE status = 'deactivated')::int AS deactivated
         FROM user_directory WHERE user_id = ANY($1)`,
      [accepted.map(({ userId }) => userId)],
    );
    const progress = { registered: 0, active: 0, deactivated: 0, ...row, mails: catcher.countFor(addresses) };
    report(progress);
    const seen = JSON.stringify(progress);
    if (seen !== last) movedAt = performance.now();
    last = seen;
    const { active, deactivated, mails } = progress;
    const complete = active + deactivated + refused.length >= users.length && mails >= active;
    if (sent && (complete || performance.now() - movedAt > patienceMs)) return progress;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
