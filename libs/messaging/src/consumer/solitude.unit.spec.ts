import { setImmediate as turn } from 'node:timers/promises';
import { Solitude } from './solitude.js';

const never = (): Promise<void> => new Promise(() => undefined);

/** Work that notes when it begins, and ends when it is told to. */
function job(log: string[], name: string) {
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => (end = resolve));
  const work = async (): Promise<string> => {
    log.push(name);
    await ended;
    return name;
  };
  return { work, end };
}

it('waits for what runs, and lets nothing begin meanwhile; those that are to be alone come one after the other, and first', async () => {
  const solitude = new Solitude(60_000);
  const log: string[] = [];
  const [before, first, second, after] = ['before', 'first', 'second', 'after'].map((name) => job(log, name));
  const results = [
    solitude.beside(before!.work),
    solitude.alone(first!.work),
    solitude.beside(after!.work),
    solitude.alone(second!.work),
  ];
  const expectAfterTurn = async (...begun: string[]) => {
    await turn();
    expect(log).toEqual(begun);
  };
  await expectAfterTurn('before');
  before!.end();
  await expectAfterTurn('before', 'first');
  first!.end();
  await expectAfterTurn('before', 'first', 'second');
  second!.end();
  await expectAfterTurn('before', 'first', 'second', 'after');
  after!.end();
  expect(await Promise.all(results)).toEqual(['before', 'first', 'after', 'second']);
});

it('goes on after an error, which it passes on', async () => {
  const solitude = new Solitude(60_000);
  const failing = solitude.alone(() => Promise.reject(new Error('no')));
  const next = solitude.beside(() => Promise.resolve('next'));
  await expect(failing).rejects.toThrow('no');
  expect(await next).toBe('next');
});

it('does not keep others for longer than its time', async () => {
  const solitude = new Solitude(5);
  void solitude.beside(never);
  void solitude.alone(never);
  expect(await solitude.alone(() => Promise.resolve('alone'))).toBe('alone');
  expect(await solitude.beside(() => Promise.resolve('beside'))).toBe('beside');
});
