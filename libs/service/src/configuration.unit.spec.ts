import { baseSettings, readSettings } from './configuration.js';

const DATABASE_URL = 'postgresql://user:secret@db:5432/users';

it('fills in defaults and takes an empty variable for one that is not set', () => {
  expect(readSettings(baseSettings, { DATABASE_URL, LOG_LEVEL: '', KAFKA_BROKERS: 'a:1, b:2' })).toEqual({
    HOST: '0.0.0.0',
    DATABASE_URL,
    RABBITMQ_URL: 'amqp://guest:guest@127.0.0.1:5672',
    KAFKA_BROKERS: ['a:1', 'b:2'],
    LOG_LEVEL: 'info',
    EVENT_PARTITIONS: 4,
    COMMAND_PREFETCH: 100,
    DATABASE_POOL: 10,
  });
});

it('names every variable that is missing or wrong, without its value', () => {
  const read = () =>
    readSettings(baseSettings, { PORT: '99999', KAFKA_BROKERS: 'nowhere', RABBITMQ_URL: 'http://secret' });
  expect(read).toThrow(/PORT: .*\n.*DATABASE_URL: .*\n.*RABBITMQ_URL: .*\n.*KAFKA_BROKERS.*: must be HOST:PORT/);
  expect(read).not.toThrow(/secret/);
});
