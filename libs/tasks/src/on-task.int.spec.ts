import { Controller, Module, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import {
  connectMessaging,
  createMessage,
  CreateMessagingTables1760000000001,
  MemoryCommandBroker,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  MessagingModule,
  OnCommand,
  type MessagingOptions,
} from '@starter/messaging';
import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import { CreateTaskTable1760000000005 } from './create-task-table.migration.js';
import { OnTask } from './on-task.js';
import type { TaskContext } from './task-context.js';
import { Tasks } from './tasks.js';

const schema = z.object({ n: z.int() });
const Export = { kind: 'command', type: 'spec.export', version: 1, owner: 'spec', schema } as const;

const calls: unknown[] = [];

@Controller()
class Exports {
  @OnTask(Export)
  async export({ data, progress, message }: TaskContext<typeof Export>): Promise<{ doubled: number }> {
    progress(1, 1);
    calls.push(['export', message.id]);
    return { doubled: 2 * data.n };
  }
}

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateTaskTable1760000000005]);
});
afterAll(() => database.close());
const bindings: object[] = [];
let transport: MemoryCommandTransport;
const apps: NestFastifyApplication[] = [];
afterEach(async () => {
  for (const app of apps.splice(0)) await app.close();
});

interface Parts {
  readonly controllers: Type[];
  readonly options?: Partial<MessagingOptions>;
  readonly withTasks?: boolean;
}

async function start({ controllers, options = {}, withTasks = true }: Parts): Promise<NestFastifyApplication> {
  transport = new MemoryCommandTransport(new MemoryCommandBroker());
  const quiet = () => undefined;
  const info = (what: string, details: object = {}) => void (what === 'binding' && bindings.push({ ...details }));
  const logger = { info, warn: quiet, error: quiet, debug: quiet };
  const transports = { commands: transport, events: new MemoryEventTransport() };
  const tasks = { provide: Tasks, inject: [Messaging], useFactory: (messaging: Messaging) => new Tasks(messaging) };
  @Module({ providers: [{ provide: DataSource, useValue: database.dataSource }], exports: [DataSource] })
  class DatabaseModule {}
  @Module({
    imports: [
      { module: DatabaseModule, global: true },
      MessagingModule.forRoot({ service: 'spec', ...transports, logger, partitions: 1, ...options }),
    ],
    controllers,
    providers: withTasks ? [tasks] : [],
  })
  class AppModule {}
  const app = await NestFactory.create<NestFastifyApplication>(AppModule, new FastifyAdapter(), {
    logger: false,
    abortOnError: false,
  });
  apps.push(app);
  await connectMessaging(app);
  await app.init();
  return app;
}

it('performs tasks: their state and result are recorded, and the log says where each is handled', async () => {
  await start({ controllers: [Exports], options: { contracts: { Export } } });
  expect(bindings).toContainEqual(
    expect.objectContaining({ queue: 'spec.tasks', command: Export.type, handler: 'Exports.export' }),
  );
  const message = createMessage({ type: Export.type, version: 1, source: 'spec', data: { n: 4 } });
  await transport.send(message);
  await eventually(async () => {
    const text = 'SELECT state, result FROM task WHERE id = $1';
    expect(await database.dataSource.query(text, [message.id])).toEqual([{ state: 'SUCCESS', result: { doubled: 8 } }]);
  });
  expect(calls).toEqual([['export', message.id]]);
});

it('refuses a type that is a command and a task: both queues would get it', async () => {
  @Controller()
  class AsCommand {
    @OnCommand(Export)
    async handle(): Promise<void> {}
  }
  await expect(start({ controllers: [AsCommand, Exports] })).rejects.toThrow(
    'spec.export has two handlers, AsCommand.handle of spec.commands and Exports.export of spec.tasks; keep one of them',
  );
});

it('says what to import in a service that has no tasks', async () => {
  await expect(start({ controllers: [Exports], withTasks: false })).rejects.toThrow('import TasksModule.forRoot()');
});
