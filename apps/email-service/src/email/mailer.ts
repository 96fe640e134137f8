import type { OnApplicationShutdown } from '@nestjs/common';
import { errorText } from '@starter/messaging';
import { createTransport, type NodemailerError } from 'nodemailer';
import { MailError } from './mail-error.js';
import { faultOf } from './mail-fault.js';

export interface MailerOptions {
  /**
   * `smtp://[user:password@]host[:port]` for a plain connection, `smtps://…` for TLS from the first byte,
   * `smtp://…?requireTLS=true` for STARTTLS.
   */
  readonly url: string;
  /** `Name <address@domain>` or `address@domain`. The domain is also that of every Message-ID. */
  readonly from: string;
  /** Connections kept open, and so e-mails under way at the same time. Default 10. */
  readonly connections?: number;
  /** Longest wait for a connection, for the greeting and for each answer of the server. Default 30 000. */
  readonly answerTimeoutMs?: number;
  /** Longest time for one e-mail, with its wait for a free connection. Default 60 000. */
  readonly sendTimeoutMs?: number;
}

/** Groups: the name if there is one, then the address in one of two places. */
export const senderFormat = /^(?:"?([^"<>\r\n]*?)"?\s*<([^<>@\s]+@[^<>@\s]+)>|([^<>@\s]+@[^<>@\s]+))$/;

export interface Mail {
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  readonly html: string;
}

/** Hands e-mails to one SMTP server over a pool of connections. */
export class Mailer implements OnApplicationShutdown {
  private readonly transport: ReturnType<typeof connect>;
  private readonly from: { readonly name: string; readonly address: string };
  private readonly sendTimeoutMs: number;

  constructor(options: MailerOptions) {
    const [, name = '', named, bare = ''] = senderFormat.exec(options.from) ?? [];
    this.from = { name, address: named ?? bare };
    if (!this.from.address) throw new Error(`"${options.from}" is no sender; write Name <address@domain>`);
    this.transport = connect(options);
    this.sendTimeoutMs = options.sendTimeoutMs ?? 60_000;
  }

  /**
   * Resolves to the Message-ID once the server has taken the e-mail. The same `id` always gives the same Message-ID, by
   * which servers and mailboxes can tell a second copy.
   * @throws MailError with whose fault it is; a timeout and an aborted `signal` are temporary
   */
  async send(id: string, { to, ...content }: Mail, signal?: AbortSignal): Promise<string> {
    const { from } = this;
    const messageId = `<${id}${from.address.slice(from.address.lastIndexOf('@'))}>`;
    const overdue = AbortSignal.timeout(this.sendTimeoutMs);
    try {
      await this.transport.sendMail({
        ...content,
        messageId,
        // As objects they are one address each; a string would be split at its commas.
        from,
        to: { name: '', address: to },
        headers: { 'Auto-Submitted': 'auto-generated' },
        signal: signal ? AbortSignal.any([overdue, signal]) : overdue,
      });
      return messageId;
    } catch (error) {
      if (overdue.aborted) throw new MailError('temporary', `not sent within ${this.sendTimeoutMs} ms`);
      if (signal?.aborted) throw new MailError('temporary', `not sent: ${errorText(signal.reason)}`);
      throw mailError(error as NodemailerError);
    }
  }

  /** By now the consumers have stopped and drained: whatever is still under way is cut off and will be delivered again. */
  onApplicationShutdown(): void {
    this.transport.close({ force: true });
  }
}

function connect({ url, connections = 10, answerTimeoutMs = 30_000 }: MailerOptions) {
  return createTransport({
    pool: true,
    // Settings in the URL's query win over the ones below.
    url,
    maxConnections: connections,
    maxMessages: Infinity,
    // Without it a server that merely offers STARTTLS, with whatever certificate, would decide and not the URL.
    ignoreTLS: true,
    connectionTimeout: answerTimeoutMs,
    greetingTimeout: answerTimeoutMs,
    socketTimeout: answerTimeoutMs,
    // An e-mail is made of what is given to it, never of files or URLs that its content names.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
}

/** The server's words end up in events and on screens. */
const mailError = (error: NodemailerError): MailError =>
  new MailError(faultOf(error), error.message.replace(/\p{Cc}+/gu, ' '), { cause: error });
