import { eventually } from '@starter/testing';
import { Watchdog } from './watchdog.js';

it('names what is under way for too long, and forgets it when it ends, however', async () => {
  const watchdog = new Watchdog();
  let fail = (_: Error): void => undefined;
  const stuck = watchdog.during('lane', () => new Promise<void>((_, reject) => (fail = reject)));
  await watchdog.during('relay', async () => undefined);
  await eventually(() => expect([...watchdog.longerThan(10).keys()]).toEqual(['lane']));
  expect(watchdog.longerThan(10).get('lane')).toBeGreaterThan(10);
  expect(watchdog.longerThan(60_000).size).toBe(0);
  fail(new Error('it failed'));
  await expect(stuck).rejects.toThrow('it failed');
  expect(watchdog.longerThan(0).size).toBe(0);
});
