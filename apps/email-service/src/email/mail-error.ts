/**
 * Whose fault it is that an e-mail was not taken:
 * - `recipient`: the server says that it has no such mailbox, or that it takes nothing more. Final.
 * - `content`: the server, or our own template, refuses this e-mail. Final.
 * - `set-up`: no e-mail would go through: credentials, relaying, the sender's address, certificates, a server that is away.
 *   It says nothing about this e-mail.
 * - `temporary`: the server asks for another try, or its answer did not come. It may have taken the e-mail all the same.
 */
export type MailFault = 'recipient' | 'content' | 'set-up' | 'temporary';

/** An e-mail was not sent. */
export class MailError extends Error {
  override readonly name = 'MailError';

  constructor(
    readonly fault: MailFault,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** However often it is tried, this e-mail will be refused. */
  get isFinal(): boolean {
    return this.fault === 'recipient' || this.fault === 'content';
  }
}
