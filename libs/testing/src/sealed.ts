import { inTransaction, Outbox } from '@starter/messaging';
import { keyTopic, PersonalData } from '@starter/personal-data';
import type { DataSource } from 'typeorm';

/** A PERSONAL_DATA_KEY for specs. */
export const testPersonalDataKey = Buffer.alloc(32, 'spec').toString('base64');

/** Looks like a sealed text, and nothing opens it: for specs that only pass it on. */
export const sealedText = (text: string, field = 'name'): string =>
  `sealed:v1:spec/somebody/${field}:AAAAAAAAAAAAAAAA:${Buffer.from(text.padEnd(16)).toString('base64url')}`;

/** Seals texts as the service `owner` does, each for the field that it is named after; the key is put into this database, and nobody is told of it. */
export async function sealAs(
  dataSource: DataSource,
  { owner, subject }: { readonly owner: string; readonly subject: string },
  texts: Readonly<Record<string, string>>,
): Promise<Record<string, string>> {
  const personalData = personalDataOf(owner, dataSource);
  const definition = { type: 'spec', personal: Object.keys(texts), personalTo: 'subject' };
  const [sealed] = await inTransaction(dataSource, async (tx) => {
    const result = await personalData.seal(tx, [{ definition, data: { ...texts, subject } }]);
    await tx.manager.query('DELETE FROM outbox WHERE address = $1 AND ordering_key = $2', [keyTopic(owner), subject]);
    return result;
  });
  const { subject: _, ...result } = sealed as Record<string, string>;
  return result;
}

/** What a process of this service would have, with nothing in memory. The database needs the tables of messaging, too. */
export const personalDataOf = (
  service: string,
  dataSource: DataSource,
  masterKey = testPersonalDataKey,
): PersonalData => new PersonalData({ service, dataSource, outbox: new Outbox(), masterKey });
