import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

// Speed is nothing that a test could hold fast. That every variant of every benchmark does all of its work, and does it once, is.
it('does in every variant what it measures', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'bench-'));
  const file = join(folder, 'results.json');
  try {
    // Without `canvas`: that one needs Python, and an index of its packages to install Celery from.
    const names = ['append', 'command', 'event', 'snapshot', 'rebuild', 'soak'];
    const args = ['bench/dist/main.js', ...names, '--quick', '--rounds', '1', '--json', file];
    const { stdout } = await promisify(execFile)(process.execPath, args, { env: { ...process.env, NODE_OPTIONS: '' } });
    expect(stdout).not.toContain('FAILED');
    const results = JSON.parse(await readFile(file, 'utf8')) as { title: string; rates?: object; figures?: object }[];
    expect(results.map(({ rates, figures }) => Object.keys(rates ?? figures ?? {}).length)).toEqual([
      3, 2, 3, 3, 2, 7, 14,
    ]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 300_000);

it('says what it does not know', async () => {
  const run = promisify(execFile)(process.execPath, ['bench/dist/main.js', 'speed'], {
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  await expect(run).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining('there is no benchmark speed') });
});
