import { TerminalError, TransientError, type Logger } from '@starter/messaging';
import { jest } from '@jest/globals';
import { Startup } from './startup.js';

const lines: string[] = [];
const log = (message: string) => void lines.push(message);
const logger: Logger = { debug: log, info: log, warn: log, error: log };
const nobody = new TransientError('nobody answers');

beforeEach(() => {
  lines.length = 0;
});

it('tries until it succeeds, ever more slowly, and does not flood the log', async () => {
  jest.useFakeTimers();
  const pauses: number[] = [];
  const startup = new Startup(logger, async (ms = 0, value) => {
    pauses.push(ms);
    await jest.advanceTimersByTimeAsync(ms);
    return value as never;
  });
  const upAt = Date.now() + 3_600_000;
  const resource = await startup.waitFor('RabbitMQ', async () => {
    if (Date.now() >= upAt) return 'connection';
    expect(startup.missing.size).toBe(1);
    throw nobody;
  });
  jest.useRealTimers();
  expect(resource).toBe('connection');
  expect(startup.missing.size).toBe(0);
  expect(startup.present).toEqual(['RabbitMQ']);
  expect(pauses[0]).toBeLessThanOrEqual(200);
  expect(Math.max(...pauses)).toBeGreaterThan(1_000);
  expect(pauses.length).toBeGreaterThan(1_800);
  expect(lines.length).toBeLessThan(70);
  expect(new Set(lines)).toEqual(new Set(['waiting for RabbitMQ', 'RabbitMQ is there']));
});

it('says why the last attempt failed', async () => {
  const startup = new Startup(logger);
  let attempts = 0;
  await startup.waitFor('RabbitMQ', async () => {
    const { problem } = startup.missing.get('RabbitMQ') ?? {};
    attempts += 1;
    if (attempts === 1) {
      expect(problem).toBe('it has not answered yet');
      throw nobody;
    }
    expect(problem).toBe('TransientError: nobody answers');
  });
  expect(attempts).toBe(2);
});

it('says nothing in the log of what is there at once', async () => {
  await new Startup(logger).waitFor('Kafka', async () => undefined);
  expect(lines).toEqual([]);
});

it.each([
  ['a server that restarts', Object.assign(new Error('the database system is starting up'), { code: '57P03' })],
  ['a name that is not known yet', new Error('none', { cause: Object.assign(new Error(), { code: 'ENOTFOUND' }) })],
])('waits for %s', async (_, error) => {
  const connect = jest.fn<() => Promise<string>>().mockRejectedValueOnce(error).mockResolvedValue('it');
  expect(await new Startup(logger).waitFor('PostgreSQL', connect)).toBe('it');
});

it('does not wait for what does not get better', async () => {
  const refused = new TerminalError('wrong password');
  await expect(new Startup(logger).waitFor('RabbitMQ', () => Promise.reject(refused))).rejects.toBe(refused);
});

it('waits no longer once another part has failed for good', async () => {
  const startup = new Startup(logger);
  const waiting = startup.waitFor('RabbitMQ', () => Promise.reject(nobody));
  startup.end();
  await expect(waiting).rejects.toThrow(/aborted/);
});
