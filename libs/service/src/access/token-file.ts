import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { roles, type Caller, type Role } from './access.js';
import { isRole, type Credentials } from './credentials.js';

interface Entry extends Caller {
  readonly digest: Buffer;
}

/** The tokens of `deploy/access/example-tokens`, which everybody knows: `example-client` and so on. */
const exampleTokens = roles.map((role) => `example-${role}`);

// A token is 32 random bytes: unlike a password it cannot be guessed from its digest, however fast that is made.
const digestOf = (token: string): Buffer => createHash('sha256').update(token).digest();

/**
 * Tokens for small set-ups, one a line: name, roles separated by commas, SHA-256 of the token in hexadecimal digits. What
 * follows a `#` is a comment.
 */
export class TokenFile implements Credentials {
  private constructor(private readonly entries: readonly Entry[]) {}

  /** @throws Error that names the line that cannot be read */
  static parse(text: string): TokenFile {
    const lines = text.split('\n').map((line, index) => ({ words: line.replace(/#.*/, '').trim(), number: index + 1 }));
    return new TokenFile(lines.filter(({ words }) => words !== '').map(({ words, number }) => entryOf(words, number)));
  }

  get names(): readonly string[] {
    return this.entries.map(({ subject }) => subject);
  }

  /** Those whose token everybody knows. */
  get examples(): readonly string[] {
    const known = exampleTokens.map(digestOf);
    return this.entries.filter(({ digest }) => known.some((one) => one.equals(digest))).map(({ subject }) => subject);
  }

  async callerOf(token: string): Promise<Caller | undefined> {
    const shown = digestOf(token);
    // All of them, so that the time does not tell which one came close.
    const [found] = this.entries.filter(({ digest }) => timingSafeEqual(digest, shown));
    return found;
  }
}

/** A new token, and its line for the file. */
export function makeToken(name: string, held: readonly Role[]): { readonly token: string; readonly line: string } {
  const token = randomBytes(32).toString('base64url');
  const line = `${name} ${held.join(',')} ${digestOf(token).toString('hex')}`;
  // The name may come from a command line.
  entryOf(line, 1);
  return { token, line };
}

function entryOf(line: string, number: number): Entry {
  const [, subject, list, hex] = /^([\w.@-]{1,100}) +([a-z,]+) +([\da-f]{64})$/.exec(line) ?? [];
  const held = list?.split(',') ?? [];
  if (subject === undefined || hex === undefined || !held.every(isRole)) {
    const form = `NAME ROLE[,ROLE] SHA256, the roles being ${roles.join(', ')}`;
    throw new Error(`line ${number} is not of the form ${form}; make one with \`npm run tokens -- FILE NAME=ROLE\``);
  }
  return { subject, roles: new Set(held), digest: Buffer.from(hex, 'hex') };
}
