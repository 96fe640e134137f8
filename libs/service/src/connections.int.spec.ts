import { startKafka, startPostgres, startRabbitMq, type Backend } from '@starter/local-backends';
import {
  commandsExchange,
  connectKafka,
  connectRabbitMq,
  createMessage,
  databaseOptions,
  done,
  type Delivery,
} from '@starter/messaging';
import { eventually } from '@starter/testing';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DataSource } from 'typeorm';
import { connectionsOf, connectionSettings, type Connections } from './connections.js';
import { readSettings } from './configuration.js';

let folder: string;
const started: Backend[] = [];
const fileOf = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'certificates-'));
  const openssl = (...args: string[]) => promisify(execFile)('openssl', args, { cwd: folder });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc'];
  for (const ca of ['ca', 'other-ca']) {
    const own = ['-keyout', `${ca}.key`, '-out', `${ca}.pem`, '-subj', `/CN=${ca}`, '-days', '2'];
    await openssl('req', '-x509', ...newKey, ...own);
  }
  await writeFile(fileOf('names'), 'subjectAltName=IP:127.0.0.1\n');
  for (const name of ['server', 'client']) {
    await openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', 'names'];
    await openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.pem`, ...signed);
  }
});
afterAll(async () => {
  await Promise.all(started.map((backend) => backend.stop()));
  await rm(folder, { recursive: true, force: true });
});

const DATABASE_URL = 'postgresql://user:secret@127.0.0.1:1/users';
const connections = (environment: Record<string, string>): Connections =>
  connectionsOf(readSettings(connectionSettings, { DATABASE_URL, ...environment }));
const files = (server: string, ca = 'ca') => ({
  [`${server}_TLS_CA_FILE`]: fileOf(`${ca}.pem`),
  [`${server}_TLS_CERT_FILE`]: fileOf('client.pem'),
  [`${server}_TLS_KEY_FILE`]: fileOf('client.key'),
});
const serverTls = () => ({ ca: fileOf('ca.pem'), cert: fileOf('server.pem'), key: fileOf('server.key') });
const start = async (backend: Promise<Backend>): Promise<string> => {
  started.push(await backend);
  return (await backend).url;
};

it('reaches PostgreSQL over TLS, checks its certificate, and encrypts without a check if told so', async () => {
  const url = await start(startPostgres({ tls: serverTls() }));
  const isEncrypted = async (environment: Record<string, string>): Promise<unknown> => {
    const dataSource = new DataSource(databaseOptions(connections(environment).database));
    await dataSource.initialize();
    try {
      return await dataSource.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()');
    } finally {
      await dataSource.destroy();
    }
  };
  expect(await isEncrypted({ DATABASE_URL: url, ...files('DATABASE') })).toEqual([{ ssl: true }]);
  expect(await isEncrypted({ DATABASE_URL: `${url}?sslmode=require` })).toEqual([{ ssl: true }]);
  expect(await isEncrypted({ DATABASE_URL: url })).toEqual([{ ssl: false }]);
  await expect(isEncrypted({ DATABASE_URL: url, ...files('DATABASE', 'other-ca') })).rejects.toThrow(/certificate/);
  await expect(isEncrypted({ DATABASE_URL: `${url}?sslmode=verify-full` })).rejects.toThrow(/certificate/);
});

it('sends and takes commands over amqps, with a certificate of its own', async () => {
  const url = await start(startRabbitMq({ tls: serverTls() }));
  const transport = await connectRabbitMq(connections({ RABBITMQ_URL: url, ...files('RABBITMQ') }).rabbitMq);
  const received: Delivery[] = [];
  const queue = 'spec.commands';
  await transport.declare({
    exchanges: [{ name: commandsExchange, type: 'direct' }],
    queues: [{ name: queue }],
    bindings: [{ exchange: commandsExchange, queue, routingKey: 'spec.do-it' }],
  });
  await transport.consume(queue, async (delivery) => {
    received.push(delivery);
    return done;
  });
  await transport.send(createMessage({ type: 'spec.do-it', version: 1, source: 'spec', data: { n: 1 } }));
  await eventually(() => expect(received.map(({ message }) => message.data)).toEqual([{ n: 1 }]));
  await transport.close();
  for (const wrong of [{}, files('RABBITMQ', 'other-ca')]) {
    const { rabbitMq } = connections({ RABBITMQ_URL: url, ...wrong });
    await expect(connectRabbitMq({ ...rabbitMq, startTimeoutMs: 0 })).rejects.toThrow(/certificate/);
  }
});

it('publishes and reads events over TLS with SASL, and is refused with another password', async () => {
  const user = { name: 'spec', password: 'a-secret' };
  const KAFKA_BROKERS = await start(startKafka({ tls: serverTls(), user }));
  const sasl = { KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_USERNAME: user.name, KAFKA_SASL_PASSWORD: user.password };
  const connect = (environment: Record<string, string>, startTimeoutMs = 30_000) =>
    connectKafka({ ...connections({ KAFKA_BROKERS, ...environment }).kafka, clientId: 'spec', startTimeoutMs });
  const transport = await connect({ ...files('KAFKA'), ...sasl });
  await transport.declare([{ name: 'spec.events', partitions: 1 }]);
  const received: Delivery[] = [];
  await transport.subscribe({ topic: 'spec.events', group: 'spec' }, async (delivery) => {
    received.push(delivery);
    return done;
  });
  await transport.publish('spec.events', [
    createMessage({ type: 'spec.happened', version: 1, source: 'spec', subject: 'a', data: { n: 1 } }),
  ]);
  await eventually(() => expect(received.map(({ message }) => message.data)).toEqual([{ n: 1 }]));
  await transport.close();
  for (const wrong of [{ ...files('KAFKA'), ...sasl, KAFKA_SASL_PASSWORD: 'no' }, files('KAFKA', 'other-ca'), sasl]) {
    await expect(connect(wrong, 1_000)).rejects.toThrow(/did not accept a connection/);
  }
});

it.each<[string, () => Record<string, string>, RegExp]>([
  ['no such file', () => ({ KAFKA_TLS_CA_FILE: '/nowhere.pem' }), /^KAFKA_TLS_CA_FILE: \/nowhere.pem cannot be read/],
  [
    'no certificate',
    () => ({ RABBITMQ_TLS_CA_FILE: fileOf('names') }),
    /^RABBITMQ_TLS_CA_FILE: .* no certificate in PEM/,
  ],
  [
    'no key',
    () => ({ ...files('DATABASE'), DATABASE_TLS_KEY_FILE: fileOf('client.pem') }),
    /^DATABASE_TLS_KEY_FILE: .* no private key/,
  ],
  [
    'the key of another',
    () => ({ ...files('KAFKA'), KAFKA_TLS_KEY_FILE: fileOf('server.key') }),
    /^KAFKA_TLS_KEY_FILE: it is not the key of the certificate in KAFKA_TLS_CERT_FILE/,
  ],
  ['a certificate alone', () => ({ KAFKA_TLS_CERT_FILE: fileOf('client.pem') }), /^KAFKA_TLS_KEY_FILE: it is missing/],
  ['amqp with files', () => files('RABBITMQ'), /^RABBITMQ_URL: it begins with amqp/],
  [
    'half a SASL',
    () => ({ KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_USERNAME: 'a' }),
    /^KAFKA_SASL_PASSWORD: it is missing/,
  ],
  ['SASL without a mechanism', () => ({ KAFKA_SASL_USERNAME: 'a' }), /^KAFKA_SASL_MECHANISM: it is missing/],
  [
    'an sslmode that is none',
    () => ({ DATABASE_URL: `${DATABASE_URL}?sslmode=prefer` }),
    /^DATABASE_URL: its sslmode is "prefer"/,
  ],
])('names the variable: %s', (_, environment, message) => {
  expect(() => connections(environment())).toThrow(message);
});
