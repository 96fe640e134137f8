import { makeToken } from '@starter/service';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const names = ['client', 'viewer', 'operator'] as const;

/** By role. */
export type Tokens = Readonly<Record<(typeof names)[number], string>>;

/** Makes a token for each role, for this run only, and a file that is there until `use` has ended. */
export async function withTokens<T>(use: (file: string, tokens: Tokens) => Promise<T>): Promise<T> {
  const made = names.map((role) => ({ role, ...makeToken(role, [role]) }));
  const folder = await mkdtemp(join(tmpdir(), 'starter-access-'));
  try {
    const file = join(folder, 'tokens');
    await writeFile(file, made.map(({ line }) => `${line}\n`).join(''));
    return await use(file, Object.fromEntries(made.map(({ role, token }) => [role, token])) as unknown as Tokens);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
