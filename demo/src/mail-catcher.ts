import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SMTPServer, type SMTPServerDataStream } from 'smtp-server';

export interface CaughtMail {
  readonly messageId: string;
  readonly to: string;
  readonly subject: string;
  /** As it came over the wire. */
  readonly raw: string;
}

/** Recipients here are refused for good, so that the way of a failed welcome can be seen. */
const refusedDomain = '@refused.example';

/** An SMTP server that keeps what it is sent, in a file when the data is to survive. */
export class MailCatcher {
  /** By Message-ID: a second copy of the same mail is the same mail. */
  readonly mails = new Map<string, CaughtMail>();
  copies = 0;
  /** It takes so long to answer for a mail, in milliseconds. */
  answerDelayMs = 0;
  private readonly listeners: ((mail: CaughtMail) => void)[] = [];
  private readonly server: SMTPServer;

  constructor(private readonly file?: string) {
    this.server = new SMTPServer({
      authOptional: true,
      disabledCommands: ['STARTTLS', 'AUTH'],
      disableReverseLookup: true,
      onRcptTo: ({ address }, _session, callback) => {
        if (!address.endsWith(refusedDomain)) return callback();
        callback(Object.assign(new Error(`no mailbox ${address}`), { responseCode: 550 }));
      },
      onData: (stream, session, callback) => {
        readAll(stream).then(
          (raw) => {
            this.keep(raw, session.envelope.rcptTo.map(({ address }) => address).join(', '));
            setTimeout(callback, this.answerDelayMs);
          },
          (error: Error) => callback(error),
        );
      },
    });
    // A client that goes away in the middle is no concern of ours.
    this.server.on('error', () => undefined);
  }

  static inFolder(dataDir: string | undefined): MailCatcher {
    const catcher = new MailCatcher(dataDir === undefined ? undefined : join(dataDir, 'mails.jsonl'));
    catcher.restore();
    return catcher;
  }

  /** Resolves to the URL to send to. */
  async listen(): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(0, '127.0.0.1', resolve);
    });
    const { port } = this.server.server.address() as { port: number };
    return `smtp://127.0.0.1:${port}`;
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.server.close(resolve));
  }

  /** Mails to any of these addresses, by distinct Message-ID. */
  countFor(addresses: ReadonlySet<string>): number {
    return [...this.mails.values()].filter(({ to }) => addresses.has(to.toLowerCase())).length;
  }

  /** Called for every mail, also for those that were restored. */
  onCaught(listener: (mail: CaughtMail) => void): void {
    this.listeners.push(listener);
    for (const mail of this.mails.values()) listener(mail);
  }

  private keep(raw: string, to: string): void {
    const head = raw.slice(0, raw.indexOf('\r\n\r\n')).replace(/\r\n[ \t]+/g, ' ');
    const header = (name: string): string => new RegExp(`^${name}: *(.*)$`, 'im').exec(head)?.[1]?.trim() ?? '';
    const mail = { messageId: header('message-id'), to, subject: header('subject'), raw };
    // Kept before the sender is told so: a crash in between makes a second copy, never a lost one.
    if (this.file !== undefined) appendFileSync(this.file, `${JSON.stringify(mail)}\n`);
    this.count(mail);
  }

  private count(mail: CaughtMail): void {
    this.copies += 1;
    this.mails.set(mail.messageId, mail);
    this.listeners.forEach((listener) => listener(mail));
  }

  private restore(): void {
    if (this.file === undefined || !existsSync(this.file)) return;
    const lines = readFileSync(this.file, 'utf8').split('\n');
    for (const line of lines) if (line.endsWith('}')) this.count(JSON.parse(line) as CaughtMail);
  }
}

async function readAll(stream: SMTPServerDataStream): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
