import { emailService } from '@starter/email-service';
import { orchestrator } from '@starter/orchestrator';
import {
  demoKey,
  readSettings,
  startService,
  type BaseSettings,
  type RunningService,
  type ServiceDefinition,
} from '@starter/service';
import { userService } from '@starter/user-service';
import type { Backends } from './backends.js';
import { withTokens, type Tokens } from './tokens.js';

export interface Services {
  readonly users: RunningService;
  readonly emails: RunningService;
  readonly orchestrator: RunningService;
  readonly all: readonly RunningService[];
  /** Who may call them. */
  readonly tokens: Tokens;
  stop(): Promise<void>;
}

/** All three services in this process, each with its own database and its own connections. */
export const startServices = (backends: Backends, smtpUrl: string): Promise<Services> =>
  withTokens((file, tokens) => start(backends, smtpUrl, file, tokens));

async function start(backends: Backends, smtpUrl: string, tokensFile: string, tokens: Tokens): Promise<Services> {
  const stops: (() => Promise<void>)[] = [];
  const startOne = async <S extends BaseSettings>(definition: ServiceDefinition<S>): Promise<RunningService> => {
    const portVariable = `${definition.name.replaceAll('-', '_').toUpperCase()}_PORT`;
    const [database, transports] = await Promise.all([
      backends.databaseFor(definition.name),
      backends.transportsFor(definition.name),
    ]);
    stops.push(async () => void (await Promise.all([transports.commands.close(), transports.events.close()])));
    const settings = readSettings(definition.settings, {
      LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'error',
      HOST: '127.0.0.1',
      PORT: process.env[portVariable],
      ...database,
      SMTP_URL: smtpUrl,
      // No secret, so that `--data-dir` can be read again by the next run.
      PERSONAL_DATA_KEY: process.env['PERSONAL_DATA_KEY'] ?? demoKey,
      IDEMPOTENCY_SECRET: demoKey,
      EXAMPLE_SECRETS: 'allowed',
      ACCESS_TOKENS_FILE: tokensFile,
      // One client registers everybody, as fast as it can.
      CLIENT_WRITES_PER_SECOND: '1000000',
      CLIENT_WRITES_BURST: '1000000',
    });
    const service = await startService(definition, { settings, transports, portVariable });
    stops.unshift(() => service.stop());
    return service;
  };
  const stop = async () => {
    for (const step of stops) await step();
  };
  // All of them settle before anything is stopped: one that is still starting could not be.
  const started = await Promise.allSettled([startOne(userService), startOne(emailService), startOne(orchestrator)]);
  const [users, emails, workflows] = started.map((result) =>
    result.status === 'fulfilled' ? result.value : undefined,
  );
  if (users && emails && workflows) {
    return { users, emails, orchestrator: workflows, all: [users, emails, workflows], tokens, stop };
  }
  await stop();
  throw started.find((result) => result.status === 'rejected')?.reason;
}
