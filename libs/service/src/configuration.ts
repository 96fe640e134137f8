import { z } from 'zod';
import { connectionSettings } from './connections.js';
import { exampleSecretProblem, exampleSecretsIn } from './example-secrets.js';

const topicAndCount = (pair: string): [string, number][] => {
  const [topic = '', count] = pair.trim().split('=');
  return count === undefined ? [] : [[topic, Number(count)]];
};

const secret = z
  .string()
  .refine((text) => Buffer.from(text, 'base64').length === 32, 'must be 32 bytes in base64: openssl rand -base64 32');

/** What every service reads from its environment. */
export const baseSettings = z.object({
  /** Address to listen on. Default: with access configured all of this machine, else 127.0.0.1 and no other. */
  HOST: z.string().optional(),
  /** Of the product. */
  PORT: z.coerce.number().int().min(0).max(65_535).optional(),
  /** Of health, metrics, tasks and the description of the API; not to be open to the world. Default: PORT + 100. */
  MANAGEMENT_PORT: z.coerce.number().int().min(0).max(65_535).optional(),
  /** Who has which token: see docs/access.md. */
  ACCESS_TOKENS_FILE: z.string().optional(),
  /** Where an identity provider publishes the keys of its JWTs; with the two that follow. */
  ACCESS_JWKS_URL: z.url({ protocol: /^https?$/ }).optional(),
  ACCESS_ISSUER: z.string().optional(),
  ACCESS_AUDIENCE: z.string().optional(),
  /** Where in a JWT the roles are, such as `realm_access.roles`. */
  ACCESS_ROLE_CLAIM: z.string().default('roles'),
  /** Requests that write, POST and DELETE, of one token (or one address, where there is none) to one instance. */
  CLIENT_WRITES_PER_SECOND: z.coerce.number().positive().max(1_000_000).default(100),
  /** So many at once, after a pause. */
  CLIENT_WRITES_BURST: z.coerce.number().int().min(1).max(10_000_000).default(1_000),
  /** Requests of an instance that wait for a result or for news at the same time; the next are answered 503. */
  WAITING_REQUESTS: z.coerce.number().int().min(1).max(1_000_000).default(1_000),
  /** Whose X-Forwarded-For is believed: addresses or networks (10.0.0.0/8), separated by commas. Default: nobody's. */
  TRUSTED_PROXIES: z
    .string()
    .transform((list) => list.split(',').map((proxy) => proxy.trim()))
    .optional(),
  /** `allowed` in a demo: secrets that stand in the template, and so are none. */
  EXAMPLE_SECRETS: z.enum(['refused', 'allowed']).default('refused'),
  ...connectionSettings.shape,
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  /** Partitions of the topics that the service owns. Those that exist may have more; with fewer the service does not start. */
  EVENT_PARTITIONS: z.coerce.number().int().min(1).max(1_000).default(4),
  /** Of single topics that it owns, where it is another number: `user-service.keys=2`. */
  TOPIC_PARTITIONS: z
    .string()
    .regex(/^(\s*[^=,\s]+=[1-9]\d{0,2}\s*(,|$))*$/, 'must be TOPIC=COUNT, or several separated by commas')
    .default('')
    .transform((list) => Object.fromEntries(list.split(',').flatMap(topicAndCount))),
  /**
   * How long the service's events are kept in its topic: who reads them may be away for so long. -1: for ever. A topic that keeps
   * them for less is refused at the start.
   */
  EVENT_RETENTION_DAYS: z.coerce
    .number()
    .max(3_650)
    .refine((days) => days === -1 || days > 0, 'must be more than 0, or -1 for ever')
    .default(30),
  /** How long the service may be away and lose no event; a topic that it reads and that keeps less is a problem. 0: any. */
  LONGEST_OUTAGE_DAYS: z.coerce.number().min(0).max(3_650).default(30),
  /** Most commands of a service instance handled at the same time. */
  COMMAND_PREFETCH: z.coerce.number().int().min(1).max(10_000).default(100),
  /** How long a message is known, so that a second copy has no effect; longer than any copy may be under way. */
  INBOX_RETENTION_DAYS: z.coerce.number().positive().max(3_650).default(30),
  /** How long refused messages are kept with their reason. */
  DISCARDED_RETENTION_DAYS: z.coerce.number().positive().max(3_650).default(90),
  /** Keys the hashes of requests with an Idempotency-Key; not needed beside PERSONAL_DATA_KEY. 32 bytes in base64. */
  IDEMPOTENCY_SECRET: secret.optional(),
  /** How long a request with the same Idempotency-Key gets the first answer. */
  IDEMPOTENCY_KEY_RETENTION_DAYS: z.coerce.number().positive().max(3_650).default(7),
  /** Database connections of a service instance. */
  DATABASE_POOL: z.coerce.number().int().min(2).max(1_000).default(10),
  /** Whether statements keep their names from one use to the next; not behind PgBouncer before 1.21. */
  DATABASE_PREPARED_STATEMENTS: z.stringbool().default(true),
  /** Of an event with its headers; what would lead to a larger one is refused. Kafka's `message.max.bytes` must allow as many. */
  EVENT_MAX_BYTES: z.coerce.number().int().min(10_000).max(100_000_000).default(1_000_000),
  /** Past so many rows, or so old a row, in the outbox the HTTP edge answers 503 to what would write. */
  OUTBOX_HIGH_ROWS: z.coerce.number().int().min(1).default(50_000),
  OUTBOX_HIGH_AGE_SECONDS: z.coerce.number().int().min(1).default(60),
  /** From "not ready" to the first refused request: as long as load balancers take to notice. */
  SHUTDOWN_DELAY_MS: z.coerce.number().int().min(0).max(600_000).default(0),
  /** How long what is in hand may take when the service stops; its supervisor must wait at least 5 s longer. */
  SHUTDOWN_DRAIN_MS: z.coerce.number().int().min(0).max(3_600_000).default(20_000),
  /** A service that has work and finishes none for so long says that it is not ready. More than the slowest handler takes. */
  STALLED_AFTER_MS: z.coerce.number().int().min(1_000).default(120_000),
  /** A process whose work hangs for so long says that it is not alive, and is restarted. Every wait is bounded by far less. */
  STUCK_AFTER_MS: z.coerce.number().int().min(60_000).default(300_000),
});
export type BaseSettings = z.output<typeof baseSettings> & { readonly PERSONAL_DATA_KEY?: string };

/** Of a service that seals or opens personal data, with `CreatePersonalKeys…` among its migrations. Nobody else needs the key. */
export const personalDataSettings = baseSettings.extend({
  /** Seals the keys that personal data is encrypted with; the same in all services that have it. */
  PERSONAL_DATA_KEY: secret,
});

/**
 * Reads the settings from environment variables; an empty one counts as not set.
 * @throws Error naming every variable that is missing or wrong, or holds a secret that everybody knows
 */
export function readSettings<Settings>(schema: z.ZodType<Settings>, environment: NodeJS.ProcessEnv): Settings {
  const present = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const parsed = schema.safeParse(present);
  const lines = parsed.success
    ? exampleSecretsIn(parsed.data as object).map((name) => `  ${name}: ${exampleSecretProblem}`)
    : parsed.error.issues.map((issue) => `  ${issue.path.join('.')}: ${issue.message}`);
  if (parsed.success && lines.length === 0) return parsed.data;
  throw new Error(`the environment is not as it must be; set these variables (see .env.example):\n${lines.join('\n')}`);
}
