import { inTransaction, Outbox, PersonalData, type OutboxEntry } from '@starter/messaging';
import type { DataSource } from 'typeorm';

/** A PERSONAL_DATA_KEY for specs. */
export const testPersonalDataKey = Buffer.alloc(32, 'spec').toString('base64');

/** Looks like a sealed text, and nothing opens it: for specs that only pass it on. */
export const sealedText = (text: string): string =>
  `sealed:v1:spec/somebody:AAAAAAAAAAAAAAAA:${Buffer.from(text.padEnd(16)).toString('base64url')}`;

/** Seals texts as the service `owner` does; the key is put into this database, and nobody is told of it. */
export async function sealAs(
  dataSource: DataSource,
  { owner, subject }: { readonly owner: string; readonly subject: string },
  texts: Readonly<Record<string, string>>,
): Promise<Record<string, string>> {
  const personalData = personalDataOf(owner, dataSource);
  const definition = { type: 'spec', personal: ['texts.*'], personalTo: 'subject' };
  const [sealed] = await inTransaction(dataSource, (tx) =>
    personalData.seal(tx, [{ definition, data: { subject, texts } }]),
  );
  return (sealed as { texts: Record<string, string> }).texts;
}

/** What a process of this service would have, without anything to send. */
export const personalDataOf = (
  service: string,
  dataSource: DataSource,
  masterKey = testPersonalDataKey,
): PersonalData => new PersonalData({ service, dataSource, outbox: new DroppedOutbox(), masterKey });

class DroppedOutbox extends Outbox {
  override add(_tx: unknown, _entries: readonly OutboxEntry[]): Promise<void> {
    return Promise.resolve();
  }
}
