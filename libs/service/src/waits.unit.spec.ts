import { lastValueFrom, toArray } from 'rxjs';
import { changes } from './server-sent-events.js';
import { Waits } from './waits.js';

const request = () => {
  const client = new AbortController();
  return { signal: client.signal, raw: { destroyed: false }, leave: () => client.abort() };
};
const aborted = (signal: AbortSignal) =>
  new Promise<string>((resolve) => {
    const answer = () => resolve('what is known');
    if (signal.aborted) answer();
    else signal.addEventListener('abort', answer);
  });

it('ends a wait when its client has left, and all of them when the service stops; later ones do not begin', async () => {
  const waits = new Waits(10);
  const [one, other] = [request(), request()];
  const answers = [waits.during(one, aborted), waits.during(other, aborted)];
  expect(waits.size).toBe(2);
  one.leave();
  expect(await answers[0]).toBe('what is known');
  expect(waits.size).toBe(1);
  waits.stop();
  expect(await answers[1]).toBe('what is known');
  expect(await waits.during(request(), aborted)).toBe('what is known');
  expect(waits.size).toBe(0);
});

it('ends a wait whose client has left before, and a stream that nobody has begun to read', async () => {
  const waits = new Waits(10);
  expect(await waits.during({ ...request(), raw: { destroyed: true } }, aborted)).toBe('what is known');
  const left = request();
  const reading = changes(
    'n',
    async () => left.leave(),
    () => false,
    waits.begin(left),
  );
  await reading;
  expect(waits.size).toBe(0);
});

it('refuses with Retry-After what is too much, and has room again whatever became of a wait', async () => {
  const waits = new Waits(1);
  const failing = waits.during(request(), () => Promise.reject(new Error('no')));
  await expect(waits.during(request(), aborted)).rejects.toMatchObject({ status: 503, retryAfter: 5 });
  await expect(failing).rejects.toThrow('no');
  const read = () => Promise.reject(new Error('unknown'));
  await expect(changes('task', read, () => false, waits.begin(request()))).rejects.toThrow('unknown');
  expect(waits.size).toBe(0);
});

it('ends a stream with what is known when the service stops', async () => {
  const waits = new Waits(1);
  let now = 1;
  const events = await changes(
    'n',
    () => Promise.resolve(now),
    () => false,
    waits.begin(request()),
  );
  const all = lastValueFrom(events.pipe(toArray()));
  now = 2;
  waits.stop();
  expect(await all).toEqual([
    { type: 'n', data: '1' },
    { type: 'n', data: '2' },
  ]);
  expect(waits.size).toBe(0);
});
