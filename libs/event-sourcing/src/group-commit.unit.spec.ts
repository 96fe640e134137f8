import { DatabaseUnavailableError } from '@starter/messaging';
import { GroupCommit } from './group-commit.js';

/** Commits that end when told to; `fails` says which batches are refused. */
function controlled(fails: (batch: readonly number[]) => Error | undefined = () => undefined) {
  const batches: number[][] = [];
  let release = (): void => undefined;
  let gate = new Promise<void>((resolve) => (release = resolve));
  const commit = async (batch: readonly number[]) => {
    batches.push([...batch]);
    await gate;
    const error = fails(batch);
    if (error) throw error;
    return batch.map((n) => n * 10);
  };
  const open = (): void => {
    release();
    gate = Promise.resolve();
  };
  return { batches, commit, open };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

it('commits alone and at once when idle, and together what arrives meanwhile', async () => {
  const { batches, commit, open } = controlled();
  const group = new GroupCommit(commit, { lanes: 1 });
  const first = group.submit(1);
  await turn();
  expect(batches).toEqual([[1]]);
  const others = [2, 3, 4].map((n) => group.submit(n));
  await turn();
  expect(batches).toEqual([[1]]);
  open();
  expect(await Promise.all([first, ...others])).toEqual([10, 20, 30, 40]);
  expect(batches).toEqual([[1], [2, 3, 4]]);
});

it('puts no more into a batch than allowed, and keeps the order', async () => {
  const { batches, commit, open } = controlled();
  const group = new GroupCommit(commit, { lanes: 1, maxBatch: 2 });
  const results = [1, 2, 3, 4, 5].map((n) => group.submit(n));
  open();
  await Promise.all(results);
  expect(batches).toEqual([[1, 2], [3, 4], [5]]);
});

it('takes a failing batch apart, so that each piece has its own result', async () => {
  const { batches, commit, open } = controlled((batch) => (batch.includes(2) ? new Error('not 2') : undefined));
  const group = new GroupCommit(commit, { lanes: 1 });
  const results = Promise.allSettled([1, 2, 3].map((n) => group.submit(n)));
  open();
  expect(await results).toMatchObject([
    { status: 'fulfilled', value: 10 },
    { status: 'rejected', reason: { message: 'not 2' } },
    { status: 'fulfilled', value: 30 },
  ]);
  expect(batches).toEqual([[1, 2, 3], [1], [2], [3]]);
});

it('asks a database that is away once and not once for each piece', async () => {
  const outage = new DatabaseUnavailableError(new Error('connection refused'));
  const { batches, commit, open } = controlled(() => outage);
  const group = new GroupCommit(commit, { lanes: 1 });
  const results = Promise.allSettled([1, 2, 3].map((n) => group.submit(n)));
  open();
  expect(await results).toMatchObject([{ reason: outage }, { reason: outage }, { reason: outage }]);
  expect(batches).toEqual([[1, 2, 3]]);
});
