import type { Logger } from '@starter/messaging';

export interface MailServerStateOptions {
  readonly logger: Logger;
  /** While the set-up is wrong one e-mail is tried so often, to find out whether it still is. Default 30 000 ms. */
  readonly probeMs?: number;
}

/**
 * The mail server as the service knows it. Where no e-mail would go through, one is tried now and then and the others wait,
 * without an attempt and for as long as it takes; the service shows the problem, and logs it once.
 */
export class MailServerState {
  private fault: { readonly reason: string; readonly since: Date; probeAt: number } | undefined;

  constructor(private readonly options: MailServerStateOptions) {}

  /** Why no e-mail goes through, and what to do; undefined when they do, as far as is known. */
  get problem(): string | undefined {
    if (!this.fault) return undefined;
    const { reason, since } = this.fault;
    return (
      `no e-mail goes through since ${since.toISOString()} (${reason}): ` +
      'check SMTP_URL, its credentials and certificate, MAIL_FROM, and that the server lets us relay; what waits is sent then'
    );
  }

  /** Milliseconds for which an e-mail has to wait because none goes through; 0 = it may be tried. */
  admit(): number {
    if (!this.fault) return 0;
    const waitMs = this.fault.probeAt - performance.now();
    if (waitMs > 0) return waitMs;
    this.fault.probeAt = performance.now() + this.probeMs;
    return 0;
  }

  /** The server has taken an e-mail, or has answered for one so that it would take others. */
  works(): void {
    if (!this.fault) return;
    this.options.logger.info('e-mails go through again', { since: this.fault.since.toISOString() });
    this.fault = undefined;
  }

  /** `reason` is shown and logged: it must not say who the recipient is. */
  fails(reason: string): void {
    const probeAt = performance.now() + this.probeMs;
    const isNew = this.fault === undefined;
    this.fault = { reason, since: this.fault?.since ?? new Date(), probeAt };
    if (isNew) this.options.logger.error('no e-mail goes through; they wait', { problem: this.problem });
  }

  private get probeMs(): number {
    return this.options.probeMs ?? 30_000;
  }
}
