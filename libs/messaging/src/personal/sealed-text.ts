import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { TerminalError } from '../errors.js';

const form = /^sealed:v1:([\w.-]+)\/([\w.-]+)\/([\w.]+):([\w-]{16}):([\w-]{22,})$/;
const algorithm = 'aes-256-gcm';
const tagBytes = 16;

/** Whom data is about, and the service that has sealed it and has the say over the key. */
export interface Subject {
  readonly owner: string;
  readonly subject: string;
}

export const nameOf = ({ owner, subject }: Subject): string => `${owner}/${subject}`;

/** Whose the text is; undefined when it is not sealed. */
export function subjectOfText(text: string): Subject | undefined {
  const [, owner, subject] = form.exec(text) ?? [];
  return owner === undefined || subject === undefined ? undefined : { owner, subject };
}

const anywhere = /sealed:v1:([\w.-]+\/[\w.-]+\/[\w.]+):[\w-]+(?::[\w-]*)?/g;

/**
 * For views: in place of every sealed text in it, whole or cut off, whose it is and what: `[sealed user-service/0190…/email]`.
 * `text` may be JSON, and is JSON then afterwards.
 */
export const maskSealed = (text: string): string =>
  text.includes('sealed:v1:') ? text.replace(anywhere, '[sealed $1]') : text;

/**
 * `sealed:v1:<owner>/<subject>/<field>:<iv>:<ciphertext and tag>`, the last two in base64url. The field says what it is, such as
 * `email`: a text opens only as that, so that no secret can be passed off as a name, and be sent to somebody.
 */
export const sealText = (key: Buffer, subject: Subject, field: string, text: string): string => {
  const label = labelOf(nameOf(subject), field);
  return `sealed:v1:${label}:${encrypt(key, label, Buffer.from(text))}`;
};

const labelOf = (name: string, field: string): string => `${name}/${field}`;

/** @throws TerminalError when the text was changed, moved to another subject or field, or sealed with another key */
export function openText(key: Buffer, text: string): string {
  const [, owner = '', subject = '', field = '', iv = '', body = ''] = form.exec(text) ?? [];
  const name = nameOf({ owner, subject });
  try {
    return decrypt(key, labelOf(name, field), `${iv}:${body}`).toString();
  } catch (error) {
    const what = `a sealed text of ${name} does not open with its key`;
    throw new TerminalError(`${what}: it was changed or moved; restore it from its log`, { cause: error });
  }
}

/** `label` is not in the result, but nothing opens it under another one. */
export function encrypt(key: Buffer, label: string, content: Buffer): string {
  const iv = randomBytes(12);
  const cipher = createCipheriv(algorithm, key, iv, { authTagLength: tagBytes }).setAAD(Buffer.from(label));
  const body = Buffer.concat([cipher.update(content), cipher.final(), cipher.getAuthTag()]);
  return `${iv.toString('base64url')}:${body.toString('base64url')}`;
}

/** @throws Error unless `text` is what `encrypt` made with this key and label */
export function decrypt(key: Buffer, label: string, text: string): Buffer {
  const [iv = '', encoded = ''] = text.split(':');
  const body = Buffer.from(encoded, 'base64url');
  const decipher = createDecipheriv(algorithm, key, Buffer.from(iv, 'base64url'), { authTagLength: tagBytes });
  decipher.setAAD(Buffer.from(label)).setAuthTag(body.subarray(-tagBytes));
  return Buffer.concat([decipher.update(body.subarray(0, -tagBytes)), decipher.final()]);
}
