import { setTimeout as sleep } from 'node:timers/promises';
import type { CaughtMail, MailCatcher } from './mail-catcher.js';

interface Reader {
  readonly userId?: string;
  readonly code?: string;
}

/** Reads the mails of users as they would, and verifies their addresses with the codes in them. */
export class MailReader {
  /** Ids of the commands that verify, by user. */
  readonly verified = new Map<string, string>();
  private readonly readers = new Map<string, Reader>();
  private readonly asked = new Set<string>();
  private closed = false;

  constructor(
    catcher: MailCatcher,
    /** Where user-service is now; a request that fails goes to the next of them. */
    private readonly urls: () => readonly string[],
  ) {
    catcher.onCaught((mail) => this.take(mail));
  }

  /** The mails to this address are those of this user. */
  readFor(email: string, userId: string): void {
    this.know(email, { userId });
  }

  /** What is not verified by now never is. */
  close(): void {
    this.closed = true;
  }

  private take({ to, raw }: CaughtMail): void {
    const code = /^Your code: ([\w-]+)/m.exec(raw)?.[1];
    if (code !== undefined) this.know(to, { code });
  }

  /** Whichever comes first, the mail or the answer to the registration. */
  private know(email: string, news: Reader): void {
    const address = email.toLowerCase();
    const reader = { ...this.readers.get(address), ...news };
    this.readers.set(address, reader);
    const { userId, code } = reader;
    if (userId !== undefined && code !== undefined && !this.asked.has(userId)) void this.verify(userId, code);
  }

  private async verify(userId: string, token: string): Promise<void> {
    this.asked.add(userId);
    for (let attempt = 0; !this.closed; attempt += 1) {
      const urls = this.urls();
      try {
        const response = await fetch(`${urls[attempt % urls.length]}/users/${userId}/verification`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ token }),
          signal: AbortSignal.timeout(5_000),
        });
        const answer = (await response.json()) as { commandId?: string };
        if (answer.commandId !== undefined) this.verified.set(userId, answer.commandId);
        // A refusal is final, and shows in what the user is not: active.
        if (response.status < 500) return;
      } catch {
        // The service is down: it comes back, or the process ends.
      }
      await sleep(200);
    }
  }
}
