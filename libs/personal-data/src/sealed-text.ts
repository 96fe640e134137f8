import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { readSealed, TerminalError, type SealedText } from '@starter/messaging';

const algorithm = 'aes-256-gcm';
const tagBytes = 16;

/** Whom data is about, and the service that has sealed it and has the say over the key. */
export type Subject = Pick<SealedText, 'owner' | 'subject'>;

export const nameOf = ({ owner, subject }: Subject): string => `${owner}/${subject}`;

/** As a {@link SealedText}. It opens only as its field, so that no secret can be passed off as a name, and be sent to somebody. */
export const sealText = (key: Buffer, subject: Subject, field: string, text: string): string => {
  const label = labelOf(nameOf(subject), field);
  return `sealed:v1:${label}:${encrypt(key, label, Buffer.from(text))}`;
};

const labelOf = (name: string, field: string): string => `${name}/${field}`;

/** @throws TerminalError when the text was changed, moved to another subject or field, or sealed with another key */
export function openText(key: Buffer, text: string): string {
  const { field, iv, body, ...subject } = readSealed(text) ?? { owner: '', subject: '', field: '', iv: '', body: '' };
  const name = nameOf(subject);
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
