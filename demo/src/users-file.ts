import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';

export interface DemoUser {
  readonly email: string;
  readonly name: string;
  /** Derived from the line, so that playing a file again registers nobody twice. */
  readonly idempotencyKey: string;
}

/** @throws Error naming the file and the line that is wrong */
export async function readUsers(file: string): Promise<DemoUser[]> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw new Error(`the users file cannot be read: ${(error as Error).message}; pass another with --users FILE`);
  });
  const users = text
    .split('\n')
    .map((line, index) => ({ line, number: index + 1 }))
    .filter(({ line }) => line.trim() !== '')
    .map(({ line, number }) => parseLine(line, `${file}:${number}`));
  if (users.length === 0) throw new Error(`${file} holds no users; write one {"email": …, "name": …} per line`);
  const seen = new Map<string, number>();
  users.forEach(({ email }, index) => {
    const first = seen.get(email.toLowerCase());
    if (first !== undefined) throw new Error(`${file}: ${email} stands in it twice; e-mail addresses are unique`);
    seen.set(email.toLowerCase(), index);
  });
  return users;
}

function parseLine(line: string, place: string): DemoUser {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new Error(`${place} is not JSON; write one {"email": …, "name": …} per line`);
  }
  const { email, name } = (value ?? {}) as Record<string, unknown>;
  if (typeof email !== 'string' || typeof name !== 'string') {
    throw new Error(`${place} needs "email" and "name", both strings`);
  }
  return { email, name, idempotencyKey: `demo-${createHash('sha256').update(line).digest('hex').slice(0, 32)}` };
}
