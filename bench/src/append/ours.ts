import { appendToStream } from '@starter/event-sourcing';
import { createMessage } from '@starter/messaging';
import { Deposit, Deposited } from '../account.js';
import { openDataSource } from '../connections.js';
import { writers, type EventStore } from './event-store.js';

export async function openOurs(url: string): Promise<EventStore> {
  const dataSource = await openDataSource(url, writers);
  return {
    append: (stream, after, events) =>
      appendToStream(
        dataSource,
        events.map((data, index) => ({
          message: createMessage({
            type: Deposited.type,
            version: Deposited.version,
            source: 'bench',
            subject: stream,
            sequence: after + index + 1,
            data,
          }),
          command: Deposit.type,
        })),
      ),
    close: () => dataSource.destroy(),
  };
}
