import { createTestDatabase, eventually, LateServer, type TestDatabase } from '@starter/testing';
import { SpecService, type Backends } from './spec-service.js';

const { RABBITMQ_URL, KAFKA_BROKERS } = process.env;
const scenario = RABBITMQ_URL && KAFKA_BROKERS ? describe : describe.skip;

scenario('a service that is there before what it needs', () => {
  let database: TestDatabase;
  let backends: Backends;
  let late: LateServer | undefined;
  let service: SpecService | undefined;

  beforeEach(async () => {
    database = await createTestDatabase();
    backends = { DATABASE_URL: database.url, RABBITMQ_URL: RABBITMQ_URL ?? '', KAFKA_BROKERS: KAFKA_BROKERS ?? '' };
  });
  afterEach(async () => {
    await service?.remove(backends);
    await late?.close();
    await database.drop();
  });

  /** The same backends, one of them behind an address at which nothing answers yet. */
  const without = async (variable: keyof Backends): Promise<Backends> => {
    const { host } = variable === 'KAFKA_BROKERS' ? { host: backends[variable] } : new URL(backends[variable]);
    late = await LateServer.before(host);
    return { ...backends, [variable]: backends[variable].replace(host, late.host) };
  };

  it.each([
    ['PostgreSQL', 'DATABASE_URL', ['RabbitMQ', 'Kafka']],
    ['RabbitMQ', 'RABBITMQ_URL', ['PostgreSQL', 'Kafka']],
    ['Kafka', 'KAFKA_BROKERS', ['PostgreSQL', 'RabbitMQ']],
  ] as const)('names %s, waits for it, and is ready once it has come up', async (missing, variable, others) => {
    const waiting = (service = await SpecService.start(await without(variable)));
    await eventually(async () => {
      const { status, body } = await waiting.probe('startup');
      expect({ status, missing: Object.keys(body.error ?? {}) }).toEqual({ status: 503, missing: [missing] });
      expect(body.error?.[missing]).toMatchObject({
        status: 'down',
        problem: expect.stringMatching(/127\.0\.0\.1:\d+ cannot be used .*ECONNREFUSED.*start it, or correct/),
        since: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      });
      expect(Object.keys(body.info ?? {}).sort()).toEqual([...others].sort());
    });
    expect((await waiting.probe('live')).status).toBe(200);
    expect((await waiting.probe('ready')).status).toBe(503);
    await late?.comeUp();
    await eventually(async () => expect((await waiting.probe('ready')).status).toBe(200), { timeoutMs: 40_000 });
    expect((await waiting.probe('startup')).status).toBe(200);
    const about = waiting.messages.filter((message) => message.includes(missing));
    expect(about.at(0)).toBe(`waiting for ${missing}`);
    expect(about.at(-1)).toBe(`${missing} is there`);
  });

  it('ends with 0 when it is told to while it waits', async () => {
    const waiting = (service = await SpecService.start(await without('KAFKA_BROKERS')));
    await eventually(() => expect(waiting.messages).toContain('waiting for Kafka'));
    waiting.signal('SIGTERM');
    expect(await waiting.exit).toBe(0);
    expect(waiting.messages.at(-1)).toBe('stopped before it had started');
  });

  it.each([
    ['a password of PostgreSQL', { DATABASE_URL: (url: string) => url.replace(/:[^:@/]+@/, ':wrong@') }],
    ['a database', { DATABASE_URL: (url: string) => `${url}_missing` }],
    ['a password of RabbitMQ', { RABBITMQ_URL: (url: string) => url.replace(/:[^:@/]+@/, ':wrong@') }],
    ['a virtual host', { RABBITMQ_URL: (url: string) => new URL('/missing', url).href }],
    ['an address that is none', { KAFKA_BROKERS: () => 'kafka' }],
  ])('ends at once, and says why, on what waiting does not mend: %s', async (_, change) => {
    const [[variable, wrong]] = Object.entries(change) as [[keyof Backends, (url: string) => string]];
    service = await SpecService.start({ ...backends, [variable]: wrong(backends[variable]) });
    expect(await service.exit).toBe(1);
    expect(service.complaints.join('\n')).toMatch(
      /correct DATABASE_URL|correct the URL|KAFKA_BROKERS\.0: must be HOST:PORT/,
    );
    expect(service.messages.filter((message) => message.startsWith('waiting'))).toEqual([]);
  });
});
