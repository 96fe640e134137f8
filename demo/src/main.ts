import 'reflect-metadata';
import type { RunningService } from '@starter/service';
import { DataSource } from 'typeorm';
import { startBackends } from './backends.js';
import { MailCatcher } from './mail-catcher.js';
import { parseOptions, usage, type DemoOptions } from './options.js';
import { play, type Played } from './scenario.js';
import { startServices, type Services } from './services.js';
import { tracePath } from './trace.js';
import { readUsers, type DemoUser } from './users-file.js';

const say = (line = ''): void => console.log(line);

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') {
    say(usage);
    return 0;
  }
  const users = await readUsers(options.users);
  const interrupted = new Promise<'interrupted'>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve('interrupted'));
  });
  const backends = await startBackends(options, say);
  const catcher = MailCatcher.inFolder(options.dataDir);
  try {
    const smtpUrl = await catcher.listen();
    say(`mail catcher   ${smtpUrl}`);
    const services = await startServices(backends, smtpUrl);
    try {
      announce(services);
      const outcome = await Promise.race([runScenario(options, users, services, catcher), interrupted]);
      if (outcome !== 'interrupted' && !options.once) {
        invite(services);
        say('\nThe services stay up. Ctrl-C ends them.');
        await interrupted;
      }
      return outcome === 'interrupted' || !options.once || outcome ? 0 : 1;
    } finally {
      await drain(services.all);
      await services.stop();
    }
  } finally {
    await catcher.close();
    await backends.stop();
  }
}

function announce(services: Services): void {
  for (const { name, url, managementUrl } of services.all) {
    say(`${name.padEnd(14)} ${url}  (API: ${managementUrl}/docs)`);
  }
  say();
}

/** Lines to paste; docs/access.md says what each token is good for. */
function invite({ users, orchestrator, tokens }: Services): void {
  const as = (role: keyof typeof tokens): string => `curl -H 'Authorization: Bearer ${tokens[role]}'`;
  say(`
Tokens of this run, to look around with:
  ${as('operator')} '${users.url}/users?limit=3'
  ${as('viewer')} '${orchestrator.url}/workflows?limit=3'
  ${as('viewer')} ${users.managementUrl}/metrics
  ${as('client')} ${users.url}/users --json '{"email":"me@example.com","name":"Me"}'`);
}

/** True when everybody is registered, mailed and active. */
async function runScenario(
  { users: file }: DemoOptions,
  users: readonly DemoUser[],
  services: Services,
  catcher: MailCatcher,
): Promise<boolean> {
  say(`Registering ${users.length} users of ${file} …`);
  const before = published(services.all);
  const played = await play({
    users,
    userServiceUrl: services.users.url,
    token: services.tokens.client,
    userDatabase: services.users.app.get(DataSource),
    catcher,
  });
  const [example] = played.accepted;
  if (example) {
    say(`\nThe path of ${example.user.name}:`);
    const mail = [...catcher.mails.values()].find(({ to }) => to === example.user.email);
    say(await tracePath(services.all, [example.commandId, played.verified.get(example.userId)], mail));
  }
  summarise(played, users.length, services.all, catcher, published(services.all) - before);
  return played.active === users.length && played.mails === users.length && played.refused.length === 0;
}

function summarise(
  played: Played,
  expected: number,
  services: readonly RunningService[],
  catcher: MailCatcher,
  messages: number,
): void {
  const dropped = services.reduce((sum, { messaging }) => sum + messaging.monitor.totals.duplicates, 0);
  say(`
registered           ${played.registered} of ${expected}
e-mails caught       ${played.mails} of ${expected} (${catcher.copies - catcher.mails.size} second copies)
activated            ${played.active} of ${expected}${played.deactivated > 0 ? `, ${played.deactivated} deactivated` : ''}
duplicates dropped   ${played.repeatedRequests} repeated requests, ${dropped} repeated messages
time                 ${played.seconds.toFixed(1)} s
messages             ${messages}, ${Math.round(messages / played.seconds)}/s`);
  for (const { user, problem } of played.refused.slice(0, 10)) say(`refused              ${user.email}: ${problem}`);
  if (played.refused.length > 10) say(`refused              … and ${played.refused.length - 10} more`);
}

const published = (services: readonly RunningService[]): number =>
  services.reduce((sum, { messaging }) => sum + messaging.relay.published, 0);

/** In-memory brokers forget when the process ends, so what is under way is finished first; 10 s at most. */
async function drain(services: readonly RunningService[]): Promise<void> {
  const deadline = performance.now() + 10_000;
  let last = '';
  while (performance.now() < deadline) {
    const waiting = await Promise.all(
      services.map(({ app }) => app.get(DataSource).query<unknown[]>('SELECT FROM outbox LIMIT 1')),
    );
    const seen = JSON.stringify(services.map(({ messaging }) => [messaging.monitor.totals, messaging.relay.published]));
    if (seen === last && waiting.every((rows) => rows.length === 0)) return;
    last = seen;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

try {
  process.exit(await main());
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
