import { startPostgres, type Backend } from '@starter/local-backends';
import { databaseOptions } from '@starter/messaging';
import { connectionSettings, databaseOf, readSettings } from '@starter/service';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DataSource } from 'typeorm';
import { startBackends } from './backends.js';

let folder: string;
let postgres: Backend;
const environment = { ...process.env };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'certificates-'));
  for (const name of ['server', 'other']) {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc', '-keyout', `${name}.key`];
    const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
    await promisify(execFile)('openssl', ['req', '-x509', ...key, ...subject, '-out', `${name}.pem`], { cwd: folder });
  }
  const cert = join(folder, 'server.pem');
  postgres = await startPostgres({ tls: { ca: cert, cert, key: join(folder, 'server.key') } });
});
afterAll(async () => {
  process.env = environment;
  await postgres.stop();
  await rm(folder, { recursive: true, force: true });
});

const databaseFor = async (service: string, trusted: string) => {
  process.env = {
    ...environment,
    DATABASE_URL: postgres.url,
    DATABASE_TLS_CA_FILE: join(folder, trusted),
    RABBITMQ_URL: 'amqp://127.0.0.1:1',
    KAFKA_BROKERS: '127.0.0.1:1',
  };
  const backends = await startBackends({ brokers: 'env', users: '', once: true }, () => {});
  return backends.databaseFor(service);
};

it('creates the database of a service over TLS, with the files that services take', async () => {
  const variables = await databaseFor('user-service', 'server.pem');
  const connection = databaseOf(readSettings(connectionSettings, variables));
  const dataSource = await new DataSource(databaseOptions(connection)).initialize();
  const rows = await dataSource.query(
    'SELECT ssl, current_database() AS name FROM pg_stat_ssl WHERE pid = pg_backend_pid()',
  );
  await dataSource.destroy();
  expect(rows).toEqual([{ ssl: true, name: 'user_service' }]);
});

it('creates none on a server whose certificate it does not trust', async () => {
  await expect(databaseFor('email-service', 'other.pem')).rejects.toThrow(/certificate/);
});
