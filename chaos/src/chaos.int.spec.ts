import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const environment = { env: { ...process.env, NODE_OPTIONS: '' } };
const seed = Math.floor(Math.random() * 1_000_000);

it('loses, doubles and disorders nothing, whatever breaks (short form)', async () => {
  console.info(`seed ${seed}; repeat with npm run test:chaos -- --short --kills 15 --seed ${seed}`);
  const args = ['chaos/dist/main.js', '--short', '--kills', '15', '--seed', String(seed)];
  const outcome = await run(process.execPath, args, environment).catch((error: unknown) => error as { stdout: string });
  expect(outcome.stdout).toMatch(/(\d+) of \1 faults held/);
}, 600_000);

it('says what it does not know', async () => {
  await expect(run(process.execPath, ['chaos/dist/main.js', '--fault', 'flood'], environment)).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining('no fault is called flood'),
  });
});
