import type { z } from 'zod';
import { MailError } from '../mail-error.js';

export interface Content {
  readonly subject: string;
  readonly text: string;
  readonly html: string;
}

interface Parts<Variables extends z.ZodObject> {
  /** What the template needs; other variables are ignored. */
  readonly variables: Variables;
  readonly subject: (variables: z.output<Variables>) => string;
  readonly text: (variables: z.output<Variables>) => string;
  /** Its paragraphs: what is around them is the same for all. */
  readonly html: (variables: z.output<Variables>) => string;
}

/** @throws MailError of the content, naming every variable that is missing or does not fit */
export type Template = (variables: Readonly<Record<string, string>>) => Content;

export function defineTemplate<Variables extends z.ZodObject>(name: string, parts: Parts<Variables>): Template {
  return (given) => {
    const { success, data, error } = parts.variables.safeParse(given);
    if (!success) throw new MailError('content', `template ${name} was given wrong variables: ${describe(error)}`);
    return { subject: parts.subject(data), text: parts.text(data), html: pageOf(parts.html(data)) };
  };
}

const describe = ({ issues }: z.ZodError): string =>
  issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ');

const pageOf = (paragraphs: string): string => `<!doctype html>
<html lang="en">
  <body style="font-family: sans-serif; line-height: 1.5">${paragraphs}</body>
</html>
`;
