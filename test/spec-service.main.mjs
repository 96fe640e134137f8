import { Module } from '@nestjs/common';
import { admitOnce, inTransaction, Messaging } from '@starter/messaging';
import { baseSettings, runService } from '@starter/service';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

// The process of spec-service.ts. Its handler says that it has begun, waits until the row in `gate` lets it go on, and then
// takes effect in one transaction.
const name = process.env.SERVICE_NAME;
const work = { kind: 'command', type: `${name}.work`, version: 1, owner: name, schema: z.strictObject({ n: z.int() }) };

const insertEffect = { name: 'insert-effect', text: 'INSERT INTO effect (n) VALUES ($1)' };

class SpecModule {}
Module({
  providers: [
    {
      provide: 'handler',
      inject: [Messaging],
      useFactory: ({ commands, dataSource }) => {
        commands.handle(work, async ({ data, message }) => {
          await dataSource.query('INSERT INTO begun (n) VALUES ($1)', [data.n]);
          while ((await dataSource.query('SELECT 1 FROM gate')).length === 0) await sleep(20);
          await inTransaction(dataSource, async (transaction) => {
            const [isNew] = await admitOnce(transaction, [{ consumer: commands.queue, messageId: message.id }]);
            if (isNew) await transaction.query(insertEffect, [data.n]);
          });
        });
        return true;
      },
    },
  ],
})(SpecModule);

await runService({
  name,
  description: 'A service of a spec.',
  defaultPort: 0,
  settings: baseSettings,
  entities: [],
  migrations: [],
  module: () => SpecModule,
});
