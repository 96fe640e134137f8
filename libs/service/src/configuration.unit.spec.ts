import { randomBytes } from 'node:crypto';
import { baseSettings, personalDataSettings, readSettings } from './configuration.js';
import { demoKey } from './example-secrets.js';

const DATABASE_URL = 'postgresql://user:secret@db:5432/users';

it('fills in defaults and takes an empty variable for one that is not set', () => {
  expect(readSettings(baseSettings, { DATABASE_URL, LOG_LEVEL: '', KAFKA_BROKERS: 'a:1, b:2' })).toEqual({
    ACCESS_ROLE_CLAIM: 'roles',
    CLIENT_WRITES_PER_SECOND: 100,
    CLIENT_WRITES_BURST: 1_000,
    WAITING_REQUESTS: 1_000,
    EXAMPLE_SECRETS: 'refused',
    DATABASE_URL,
    RABBITMQ_URL: 'amqp://guest:guest@127.0.0.1:5672',
    KAFKA_BROKERS: ['a:1', 'b:2'],
    LOG_LEVEL: 'info',
    EVENT_PARTITIONS: 4,
    TOPIC_PARTITIONS: {},
    EVENT_RETENTION_DAYS: 30,
    LONGEST_OUTAGE_DAYS: 30,
    COMMAND_PREFETCH: 100,
    INBOX_RETENTION_DAYS: 30,
    DISCARDED_RETENTION_DAYS: 90,
    IDEMPOTENCY_KEY_RETENTION_DAYS: 7,
    DATABASE_POOL: 10,
    DATABASE_PREPARED_STATEMENTS: true,
    EVENT_MAX_BYTES: 1_000_000,
    OUTBOX_HIGH_ROWS: 50_000,
    OUTBOX_HIGH_AGE_SECONDS: 60,
    SHUTDOWN_DELAY_MS: 0,
    SHUTDOWN_DRAIN_MS: 20_000,
    STALLED_AFTER_MS: 120_000,
    STUCK_AFTER_MS: 300_000,
  });
});

it('names every variable that is missing or wrong, without its value', () => {
  const read = () =>
    readSettings(baseSettings, { PORT: '99999', KAFKA_BROKERS: 'nowhere', RABBITMQ_URL: 'http://secret' });
  expect(read).toThrow(/PORT: .*\n.*DATABASE_URL: .*\n.*RABBITMQ_URL: .*\n.*KAFKA_BROKERS.*: must be HOST:PORT/);
  expect(read).not.toThrow(/secret/);
});

it('reads the partitions of single topics', () => {
  const read = (TOPIC_PARTITIONS: string) => readSettings(baseSettings, { DATABASE_URL, TOPIC_PARTITIONS });
  expect(read('user-service.keys=2, user-service.events=12')).toMatchObject({
    TOPIC_PARTITIONS: { 'user-service.keys': 2, 'user-service.events': 12 },
  });
  for (const wrong of ['user-service.keys', 'a=0', 'a=b', 'a=1=2'])
    expect(() => read(wrong)).toThrow(/TOPIC_PARTITIONS/);
});

it('gives the key of personal data only to services that ask for it, and says how to make one', () => {
  const PERSONAL_DATA_KEY = Buffer.alloc(32).toString('base64');
  expect(readSettings(baseSettings, { DATABASE_URL, PERSONAL_DATA_KEY })).not.toHaveProperty('PERSONAL_DATA_KEY');
  expect(readSettings(personalDataSettings, { DATABASE_URL, PERSONAL_DATA_KEY })).toMatchObject({ PERSONAL_DATA_KEY });
  for (const wrong of ['', 'c2hvcnQ=']) {
    const read = () => readSettings(personalDataSettings, { DATABASE_URL, PERSONAL_DATA_KEY: wrong });
    expect(read).toThrow(wrong === '' ? /PERSONAL_DATA_KEY: / : /PERSONAL_DATA_KEY: .*openssl rand -base64 32/);
    expect(read).not.toThrow(/c2hvcnQ/);
  }
});

it.each([
  ['DATABASE_URL', 'postgresql://user:change-me-postgres@db:5432/users'],
  ['DATABASE_URL', 'postgresql://user:change%2Dme-postgres@db:5432/users'],
  ['RABBITMQ_URL', 'amqp://starter:change-me-rabbitmq@rabbitmq:5672'],
  ['PERSONAL_DATA_KEY', 'Y2hhbmdlLW1lLWNoYW5nZS1tZS1jaGFuZ2UtbWUtISE='],
  ['PERSONAL_DATA_KEY', demoKey],
])('refuses %s=%s, which everybody knows, outside a demo', (name, value) => {
  const PERSONAL_DATA_KEY = randomBytes(32).toString('base64');
  const environment = { DATABASE_URL, PERSONAL_DATA_KEY, [name]: value };
  const read = (more = {}) => readSettings(personalDataSettings, { ...environment, ...more });
  expect(read).toThrow(new RegExp(`\\n  ${name}: is a secret of the template.*make one of your own`));
  expect(read).not.toThrow(value);
  expect(read({ EXAMPLE_SECRETS: 'allowed' })).toMatchObject({ [name]: value });
});
