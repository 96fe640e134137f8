import { DatabaseUnavailableError } from '@starter/messaging';
import { MailboxFullError, Mailboxes } from './mailboxes.js';

interface Piece {
  readonly stream: string;
  readonly n: number;
}

/** Commits that end when told to; `fails` says which batches are refused. */
function controlled(fails: (batch: readonly number[]) => Error | undefined = () => undefined) {
  const batches: number[][] = [];
  let release = (): void => undefined;
  let gate = new Promise<void>((resolve) => (release = resolve));
  const commit = async (batch: readonly Piece[]) => {
    const numbers = batch.map(({ n }) => n);
    batches.push(numbers);
    await gate;
    const error = fails(numbers);
    if (error) throw error;
    return numbers.map((n) => n * 10);
  };
  const open = (): void => {
    release();
    gate = Promise.resolve();
  };
  return { batches, commit, open };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const submitTo = (mailboxes: Mailboxes<Piece, number>) => (stream: string, n: number) =>
  mailboxes.submit({ stream, n });
const oneLane = { lanes: 1 };

it('commits alone and at once when idle, and together what arrives meanwhile', async () => {
  const { batches, commit, open } = controlled();
  const submit = submitTo(new Mailboxes(commit, oneLane));
  const first = submit('a', 1);
  await turn();
  expect(batches).toEqual([[1]]);
  const others = [submit('b', 2), submit('c', 3), submit('a', 4)];
  await turn();
  expect(batches).toEqual([[1]]);
  open();
  expect(await Promise.all([first, ...others])).toEqual([10, 20, 30, 40]);
  expect(batches).toEqual([[1], [2, 3, 4]]);
});

it('gives an actor its turn in one transaction at a time, and others theirs meanwhile', async () => {
  const { batches, commit, open } = controlled();
  const submit = submitTo(new Mailboxes(commit, { lanes: 2 }));
  const results = [submit('a', 1)];
  await turn();
  results.push(submit('a', 2), submit('b', 3));
  await turn();
  expect(batches).toEqual([[1], [3]]);
  open();
  expect(await Promise.all(results)).toEqual([10, 20, 30]);
  expect(batches).toEqual([[1], [3], [2]]);
});

it('puts no more into a batch than allowed, and keeps the order of an actor', async () => {
  const { batches, commit, open } = controlled();
  const submit = submitTo(new Mailboxes(commit, { lanes: 2, maxBatch: 2 }));
  const results = [1, 2, 3, 4, 5].map((n) => submit('a', n));
  open();
  await Promise.all(results);
  expect(batches).toEqual([[1, 2], [3, 4], [5]]);
});

it('halves a failing batch until what is to blame is alone', async () => {
  const { batches, commit, open } = controlled((batch) => (batch.includes(2) ? new Error('not 2') : undefined));
  const submit = submitTo(new Mailboxes(commit, oneLane));
  const results = Promise.allSettled([1, 2, 3, 4].map((n) => submit(`actor-${n}`, n)));
  open();
  expect(await results).toMatchObject([
    { status: 'fulfilled', value: 10 },
    { status: 'rejected', reason: { message: 'not 2' } },
    { status: 'fulfilled', value: 30 },
    { status: 'fulfilled', value: 40 },
  ]);
  expect(batches).toEqual([[1, 2, 3, 4], [1, 2], [1], [2], [3, 4]]);
});

it('asks a database that is away once and not once for each piece', async () => {
  const outage = new DatabaseUnavailableError(new Error('connection refused'));
  const { batches, commit, open } = controlled(() => outage);
  const submit = submitTo(new Mailboxes(commit, oneLane));
  const results = Promise.allSettled([1, 2, 3].map((n) => submit(`actor-${n}`, n)));
  open();
  expect(await results).toMatchObject([{ reason: outage }, { reason: outage }, { reason: outage }]);
  expect(batches).toEqual([[1, 2, 3]]);
});

it('refuses what does not fit into a mailbox, and takes it again when there is room', async () => {
  const { commit, open } = controlled();
  const mailboxes = new Mailboxes(commit, { lanes: 1, mailboxSize: 2 });
  const submit = submitTo(mailboxes);
  const first = submit('a', 1);
  await turn();
  const waiting = [submit('a', 2), submit('a', 3)];
  await expect(submit('a', 4)).rejects.toThrow(MailboxFullError);
  const other = submit('b', 5);
  expect(mailboxes.depth).toBe(3);
  open();
  await Promise.all([first, ...waiting, other]);
  expect(mailboxes.depth).toBe(0);
  expect(await submit('a', 6)).toBe(60);
});
