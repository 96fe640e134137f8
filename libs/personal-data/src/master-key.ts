import { createHmac, hkdfSync } from 'node:crypto';
import { TerminalError } from '@starter/messaging';
import { decrypt, encrypt, nameOf, type Subject } from './sealed-text.js';

/** The deployment's one secret (PERSONAL_DATA_KEY): the keys of the subjects are stored and sent only wrapped in it. */
export class MasterKey {
  private readonly wrapping: Buffer;
  private readonly hashing: Buffer;

  /**
   * @param base64 32 bytes
   * @throws Error when it is something else
   */
  constructor(base64: string) {
    const secret = Buffer.from(base64, 'base64');
    if (secret.length !== 32) {
      throw new Error('PERSONAL_DATA_KEY is not 32 bytes in base64; make one with `openssl rand -base64 32`');
    }
    const derived = (purpose: string) => Buffer.from(hkdfSync('sha256', secret, '', purpose, 32));
    this.wrapping = derived('wrap keys of subjects');
    this.hashing = derived('fingerprints');
  }

  wrap(subject: Subject, key: Buffer): string {
    return encrypt(this.wrapping, nameOf(subject), key);
  }

  /** @throws TerminalError when it was wrapped in another master key */
  unwrap(subject: Subject, wrapped: string): Buffer {
    try {
      return decrypt(this.wrapping, nameOf(subject), wrapped);
    } catch (error) {
      const what = `the key of ${nameOf(subject)} was wrapped in another master key`;
      throw new TerminalError(`${what}; set PERSONAL_DATA_KEY to that one, in every service the same`, {
        cause: error,
      });
    }
  }

  /** The same for equal texts, and nothing that could be looked up in a dictionary without the secret. */
  fingerprint(text: string): string {
    return createHmac('sha256', this.hashing).update(text).digest('base64url');
  }
}
