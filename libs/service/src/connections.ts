import type { DatabaseOptions, KafkaOptions, RabbitMqOptions } from '@starter/messaging';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { z } from 'zod';

const file = z.string().optional();

/** How PostgreSQL and the brokers are reached. Certificates and keys are files in PEM. */
export const connectionSettings = z.object({
  /** With `?sslmode=require` (encrypted) or `?sslmode=verify-full` (the server's certificate is checked as well). */
  DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }),
  /** Whose certificates are trusted; with it, `sslmode` is `verify-full` unless the URL says otherwise. */
  DATABASE_TLS_CA_FILE: file,
  /** The client's own, where the server asks for one. */
  DATABASE_TLS_CERT_FILE: file,
  DATABASE_TLS_KEY_FILE: file,
  /** `amqps://…`: over TLS, with the server's certificate checked. */
  RABBITMQ_URL: z.url({ protocol: /^amqps?$/ }).default('amqp://guest:guest@127.0.0.1:5672'),
  RABBITMQ_TLS_CA_FILE: file,
  RABBITMQ_TLS_CERT_FILE: file,
  RABBITMQ_TLS_KEY_FILE: file,
  KAFKA_BROKERS: z
    .string()
    .default('127.0.0.1:9092')
    .transform((list) => list.split(',').map((broker) => broker.trim()))
    .pipe(z.array(z.string().regex(/^[^:\s]+:\d+$/, 'must be HOST:PORT, or several separated by commas')).min(1)),
  /** Kafka over TLS. Default: when one of its files is given. */
  KAFKA_TLS: z.stringbool().optional(),
  KAFKA_TLS_CA_FILE: file,
  KAFKA_TLS_CERT_FILE: file,
  KAFKA_TLS_KEY_FILE: file,
  KAFKA_SASL_MECHANISM: z.enum(['plain', 'scram-sha-256', 'scram-sha-512']).optional(),
  KAFKA_SASL_USERNAME: z.string().optional(),
  KAFKA_SASL_PASSWORD: z.string().optional(),
});
export type ConnectionSettings = z.output<typeof connectionSettings>;

export interface Connections {
  readonly database: Pick<DatabaseOptions, 'url' | 'tls'>;
  readonly rabbitMq: Pick<RabbitMqOptions, 'url' | 'tls'>;
  readonly kafka: Pick<KafkaOptions, 'brokers' | 'ssl' | 'sasl'>;
}

type Server = 'DATABASE' | 'RABBITMQ' | 'KAFKA';

/**
 * What every client of a service, an operator's command or the demo is made with.
 * @throws Error that names the variable that is missing or wrong
 */
export function connectionsOf(settings: ConnectionSettings): Connections {
  return { database: databaseOf(settings), rabbitMq: rabbitMqOf(settings), kafka: kafkaOf(settings) };
}

export function databaseOf(settings: ConnectionSettings): Connections['database'] {
  const files = tlsFiles(settings, 'DATABASE');
  const url = new URL(settings.DATABASE_URL);
  const mode = url.searchParams.get('sslmode') ?? (files ? 'verify-full' : 'disable');
  url.searchParams.delete('sslmode');
  if (!['disable', 'require', 'verify-full'].includes(mode)) {
    throw new Error(`DATABASE_URL: its sslmode is "${mode}"; give disable, require or verify-full`);
  }
  if (mode === 'disable' && files) {
    throw new Error(
      'DATABASE_URL: its sslmode is disable, but there are DATABASE_TLS_… files; take one of the two out',
    );
  }
  if (mode === 'disable') return { url: url.href };
  return { url: url.href, tls: { ...files, host: url.hostname, rejectUnauthorized: mode === 'verify-full' } };
}

function rabbitMqOf(settings: ConnectionSettings): Connections['rabbitMq'] {
  const url = settings.RABBITMQ_URL;
  const tls = tlsFiles(settings, 'RABBITMQ');
  if (tls && !url.startsWith('amqps:')) {
    throw new Error(
      'RABBITMQ_URL: it begins with amqp, but there are RABBITMQ_TLS_… files; give one that begins with amqps',
    );
  }
  return { url, ...(tls ? { tls } : {}) };
}

function kafkaOf(settings: ConnectionSettings): Connections['kafka'] {
  const { KAFKA_BROKERS: brokers, KAFKA_SASL_MECHANISM: mechanism } = settings;
  const files = tlsFiles(settings, 'KAFKA');
  if (files && settings.KAFKA_TLS === false) {
    throw new Error('KAFKA_TLS: it is off, but there are KAFKA_TLS_… files; take one of the two out');
  }
  const ssl = files ?? (settings.KAFKA_TLS ? {} : undefined);
  const { KAFKA_SASL_USERNAME: username, KAFKA_SASL_PASSWORD: password } = settings;
  if (mechanism === undefined) {
    if (username === undefined && password === undefined) return { brokers, ...(ssl ? { ssl } : {}) };
    throw new Error('KAFKA_SASL_MECHANISM: it is missing; give plain, scram-sha-256 or scram-sha-512');
  }
  if (username === undefined)
    throw new Error('KAFKA_SASL_USERNAME: it is missing, and needed for KAFKA_SASL_MECHANISM');
  if (password === undefined)
    throw new Error('KAFKA_SASL_PASSWORD: it is missing, and needed for KAFKA_SASL_MECHANISM');
  return {
    brokers,
    ...(ssl ? { ssl } : {}),
    sasl: { mechanism, username, password } as const as KafkaOptions['sasl'] & {},
  };
}

interface TlsFiles {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

function tlsFiles(settings: ConnectionSettings, server: Server): TlsFiles | undefined {
  const ca = readPem(settings, `${server}_TLS_CA_FILE`, 'certificate', (pem) => new X509Certificate(pem));
  const cert = readPem(settings, `${server}_TLS_CERT_FILE`, 'certificate', (pem) => new X509Certificate(pem));
  const key = readPem(settings, `${server}_TLS_KEY_FILE`, 'private key without a passphrase', (pem) =>
    createPrivateKey(pem),
  );
  if (cert !== undefined && key === undefined)
    throw new Error(`${server}_TLS_KEY_FILE: it is missing, beside the certificate`);
  if (key !== undefined && cert === undefined)
    throw new Error(`${server}_TLS_CERT_FILE: it is missing, beside the key`);
  if (cert !== undefined && key !== undefined && !new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
    throw new Error(`${server}_TLS_KEY_FILE: it is not the key of the certificate in ${server}_TLS_CERT_FILE`);
  }
  if (ca === undefined && cert === undefined) return undefined;
  return { ...(ca === undefined ? {} : { ca }), ...(cert === undefined || key === undefined ? {} : { cert, key }) };
}

function readPem(
  settings: ConnectionSettings,
  variable: `${Server}_TLS_${'CA' | 'CERT' | 'KEY'}_FILE`,
  what: string,
  check: (pem: string) => unknown,
): string | undefined {
  const path = settings[variable];
  if (path === undefined) return undefined;
  let pem: string;
  try {
    pem = readFileSync(path, 'utf8');
  } catch (error) {
    throw new Error(`${variable}: ${path} cannot be read (${(error as Error).message})`, { cause: error });
  }
  try {
    check(pem);
  } catch (error) {
    throw new Error(`${variable}: ${path} holds no ${what} in PEM`, { cause: error });
  }
  return pem;
}
