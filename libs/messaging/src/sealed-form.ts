const form = /^sealed:v1:([\w.-]+)\/([\w.-]+)\/([\w.]+):([\w-]{16}):([\w-]{22,})$/;

/**
 * A sealed text: `sealed:v1:<owner>/<subject>/<field>:<iv>:<ciphertext and tag>`, the last two in base64url. The field says what
 * it is, such as `email`.
 */
export interface SealedText {
  /** The service that has sealed it. */
  readonly owner: string;
  /** Whom it is about. */
  readonly subject: string;
  readonly field: string;
  readonly iv: string;
  readonly body: string;
}

/** Its parts; undefined when the text is not sealed. */
export function readSealed(text: string): SealedText | undefined {
  const [, owner, subject, field, iv, body] = form.exec(text) ?? [];
  if (owner === undefined || subject === undefined || field === undefined) return undefined;
  return { owner, subject, field, iv: iv ?? '', body: body ?? '' };
}

export const isSealed = (text: string): boolean => form.test(text);

const anywhere = /sealed:v1:([\w.-]+\/[\w.-]+\/[\w.]+):[\w-]+(?::[\w-]*)?/g;

/**
 * For views: in place of every sealed text in it, whole or cut off, whose it is and what: `[sealed user-service/0190…/email]`.
 * `text` may be JSON, and is JSON then afterwards.
 */
export const maskSealed = (text: string): string =>
  text.includes('sealed:v1:') ? text.replace(anywhere, '[sealed $1]') : text;
