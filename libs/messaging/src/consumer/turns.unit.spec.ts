import { setImmediate as turn } from 'node:timers/promises';
import { Turns } from './turns.js';

it('lets nothing begin before the one before it has ended, in the order in which it was asked', async () => {
  const turns = new Turns(60_000);
  const log: string[] = [];
  const ends = new Map<string, () => void>();
  const job = (name: string) => async (): Promise<string> => {
    log.push(name);
    await new Promise<void>((resolve) => ends.set(name, resolve));
    return name;
  };
  const results = ['first', 'second', 'third'].map((name) => turns.take(job(name)));
  for (const [n, name] of ['first', 'second', 'third'].entries()) {
    await turn();
    expect(log).toHaveLength(n + 1);
    ends.get(name)?.();
  }
  expect(await Promise.all(results)).toEqual(log);
  expect(log).toEqual(['first', 'second', 'third']);
});

it('goes on after an error, which it passes on', async () => {
  const turns = new Turns(60_000);
  const failing = turns.take(() => Promise.reject(new Error('no')));
  const next = turns.take(() => Promise.resolve('next'));
  await expect(failing).rejects.toThrow('no');
  expect(await next).toBe('next');
});

it('does not keep others for longer than its time', async () => {
  const turns = new Turns(5);
  void turns.take(() => new Promise(() => undefined));
  expect(await turns.take(() => Promise.resolve('next'))).toBe('next');
});
