import { Controller, Get, Injectable, Module, NotFoundException, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MessagePattern, Transport } from '@nestjs/microservices';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import type { Received } from '../consumer/dispatcher.js';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { silentLogger } from '../logger.js';
import { MemoryCommandTransport } from '../memory/memory-command-transport.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { Messaging, type MessagingOptions } from '../messaging.js';
import { connectMessaging } from './connect-messaging.js';
import { MessagingModule } from './messaging.module.js';
import { OnCommand } from './on-command.js';
import { OnEvent } from './on-event.js';

const schema = z.object({ n: z.int() });
const DoIt = { kind: 'command', type: 'spec.do-it', version: 1, owner: 'spec', schema } as const;
const DoMore = { kind: 'command', type: 'spec.do-more', version: 1, owner: 'spec', schema } as const;
const Other = { kind: 'command', type: 'other.do-it', version: 1, owner: 'other', schema } as const;
const Happened = { kind: 'event', type: 'spec.happened', version: 1, owner: 'spec', schema } as const;
const Elsewhere = { kind: 'event', type: 'other.happened', version: 1, owner: 'other', schema } as const;

@Controller()
class First {
  @OnCommand(DoIt)
  async handle(): Promise<void> {}
}

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());
const apps: NestFastifyApplication[] = [];
afterEach(async () => {
  for (const app of apps.splice(0)) await app.close();
});

interface Parts {
  readonly controllers?: readonly Type[];
  readonly providers?: readonly Type[];
  readonly options?: Partial<MessagingOptions>;
}

async function create({ controllers = [], providers = [], options = {} }: Parts): Promise<NestFastifyApplication> {
  const transports = { commands: new MemoryCommandTransport(), events: new MemoryEventTransport() };
  @Module({ providers: [{ provide: DataSource, useValue: database.dataSource }], exports: [DataSource] })
  class DatabaseModule {}
  @Module({
    imports: [
      { module: DatabaseModule, global: true },
      MessagingModule.forRoot({ service: 'spec', ...transports, logger: silentLogger, partitions: 1, ...options }),
    ],
    controllers: [...controllers],
    providers: [...providers],
  })
  class AppModule {}
  const adapter = new FastifyAdapter();
  const app = await NestFactory.create<NestFastifyApplication>(AppModule, adapter, {
    logger: false,
    abortOnError: false,
  });
  apps.push(app);
  return app;
}

async function start(parts: Parts): Promise<NestFastifyApplication> {
  const app = await create(parts);
  await connectMessaging(app);
  await app.init();
  return app;
}

it('refuses two methods for one command, and names both', async () => {
  @Controller()
  class Second {
    @OnCommand(DoIt)
    async again(): Promise<void> {}
  }
  await expect(start({ controllers: [First, Second] })).rejects.toThrow(
    'spec.do-it has two handlers, First.handle and Second.again of spec.commands; keep one of them',
  );
});

it('refuses a method beside a handler that is registered by hand', async () => {
  const app = await create({ controllers: [First] });
  app.get(Messaging).commands.handle(DoIt, async () => undefined, { name: 'the actor spec' });
  await expect(connectMessaging(app)).rejects.toThrow(
    'spec.do-it has two handlers, the actor spec and First.handle of',
  );
});

it('refuses contracts of the service that nothing handles, and starts when all have a handler', async () => {
  const contracts = { DoIt, DoMore, Other, Happened, schema, text: 'no contract', of: () => DoMore };
  await expect(start({ controllers: [First], options: { contracts } })).rejects.toThrow(
    /^spec owns commands that nothing handles, .*: DoMore \(spec\.do-more\); write a method with @OnCommand or @OnTask/,
  );

  @Controller()
  class More {
    @OnCommand(DoMore)
    async more(): Promise<void> {}
  }
  const app = await start({ controllers: [First, More], options: { contracts } });
  expect(app.get(Messaging).problems()).toEqual([]);
});

it('counts what is registered by hand, as actors are, as handled', async () => {
  const app = await create({ options: { contracts: { DoIt } } });
  app.get(Messaging).commands.handle(DoIt, async () => undefined);
  await connectMessaging(app);
  await app.init();
  expect(app.get(Messaging).started).toBe(true);
});

it('refuses a method of a provider, which Nest would never call', async () => {
  @Injectable()
  class Provided {
    @OnCommand(DoMore)
    async handle(): Promise<void> {}
  }
  await expect(start({ controllers: [First], providers: [Provided] })).rejects.toThrow(
    /of a class that is no controller, and would never be called: Provided\.handle \(spec\.do-more\); list it under controllers/,
  );
});

it('refuses to start without connectMessaging, and to connect what has started', async () => {
  const forgotten = await create({ controllers: [First] });
  await expect(forgotten.init()).rejects.toThrow(
    /not connected, and would never be called: First\.handle \(spec\.do-it\); await connectMessaging\(app\) before app\.init\(\)/,
  );
  const started = await create({});
  await started.init();
  await expect(connectMessaging(started)).rejects.toThrow('call connectMessaging(app) before app.init()');
});

it('refuses a consumer that is to read two topics, or one in two ways', async () => {
  @Controller()
  class Topics {
    @OnEvent(Happened, { consumer: 'all' })
    async here(): Promise<void> {}

    @OnEvent(Elsewhere, { consumer: 'all' })
    async there(): Promise<void> {}
  }
  await expect(start({ controllers: [Topics] })).rejects.toThrow(
    'the consumer spec.all is asked for by Topics.here (spec.events, in any order) and by Topics.there (other.events, in any ' +
      "order): a consumer reads one topic in one way; give one of them another, { consumer: 'name' }",
  );

  @Controller()
  class Ways {
    @OnEvent(Happened, { consumer: 'all', inSequence: true })
    async inSequence(): Promise<void> {}

    @OnEvent(Happened, { consumer: 'all' })
    async inAnyOrder(): Promise<void> {}
  }
  await expect(start({ controllers: [Ways] })).rejects.toThrow(
    'by Ways.inSequence (spec.events, in sequence) and by Ways.inAnyOrder (spec.events, in any order)',
  );
});

it('refuses a second consumer of the same name, however it is registered', async () => {
  @Controller()
  class Reaction {
    @OnEvent(Happened, { consumer: 'all' })
    async react(): Promise<void> {}
  }
  const app = await create({ controllers: [Reaction] });
  const messaging = app.get(Messaging);
  messaging.reactTo('spec.events', 'spec.all').on(Happened, async () => undefined);
  await expect(connectMessaging(app)).rejects.toThrow(
    'there are two consumers spec.all, of spec.events and of spec.events: register all handlers with one of them',
  );
  messaging.inSequence('spec.events', 'spec.ordered');
  // The place of a key is that of its consumer, whatever the topic.
  expect(() => messaging.inSequence('other.events', 'spec.ordered')).toThrow(
    'there are two consumers spec.ordered, of spec.events and of other.events',
  );
  // Ids of messages are unique, and so no reaction takes another's.
  messaging.reactTo('other.events', 'spec.all');
});

it('refuses two methods for one event of one consumer', async () => {
  @Controller()
  class Twice {
    @OnEvent(Happened)
    async one(): Promise<void> {}

    @OnEvent(Happened)
    async two(): Promise<void> {}
  }
  await expect(start({ controllers: [Twice] })).rejects.toThrow(
    'spec.happened has two handlers, Twice.one and Twice.two of spec.reactions.spec; keep one of them',
  );
});

it('refuses a method that is to handle two messages', () => {
  expect(() => {
    @Controller()
    class Both {
      @OnCommand(DoIt)
      @OnCommand(DoMore)
      async handle(): Promise<void> {}
    }
    return Both;
  }).toThrow('Both.handle handles spec.do-more and spec.do-it: write a method for each of them');
});

it('leaves patterns of another transport to it, and refuses those for every transport', async () => {
  @Controller()
  class Tcp {
    @MessagePattern('sum', Transport.TCP)
    sum(): number {
      return 1;
    }
  }
  await start({ controllers: [First, Tcp] });

  @Controller()
  class Any {
    @MessagePattern('sum')
    sum(): number {
      return 1;
    }
  }
  await expect(start({ controllers: [Any] })).rejects.toThrow(
    /the pattern "sum" is for every transport.*name its transport/,
  );
});

it('leaves the answers of HTTP routes as they are', async () => {
  @Controller('spec')
  class Mixed {
    @Get('missing')
    missing(): void {
      throw new NotFoundException('no such thing');
    }

    @Get('broken')
    broken(): void {
      throw new RangeError('a secret');
    }

    @OnCommand(DoIt)
    async handle({ data }: Received<typeof DoIt>): Promise<void> {
      throw new RangeError(`broken at ${data.n}`);
    }
  }
  const app = await start({ controllers: [Mixed] });
  await app.listen(0, '127.0.0.1');
  const get = async (path: string) => {
    const response = await fetch(`${await app.getUrl()}/spec/${path}`);
    return [response.status, await response.json()];
  };
  expect(await get('missing')).toEqual([404, expect.objectContaining({ message: 'no such thing' })]);
  expect(await get('broken')).toEqual([500, { statusCode: 500, message: 'Internal server error' }]);
});

// Checked by the compiler: `npm run typecheck` fails when one of these is no error any more.
it('lets the compiler refuse methods that do not fit', () => {
  class Unfit {
    // @ts-expect-error -- the data of another contract
    @OnCommand(DoIt)
    async other(_: Received<{ readonly text: string }>): Promise<void> {}

    // @ts-expect-error -- no Outcome
    @OnCommand(DoIt)
    async result(): Promise<string> {
      return '';
    }

    // @ts-expect-error -- no command
    @OnCommand(Happened)
    async event(): Promise<void> {}

    // @ts-expect-error -- a batch only with manyPerKey
    @OnEvent(Happened, { inSequence: true })
    async batch(_: { readonly events: readonly unknown[] }): Promise<void> {}
  }
  expect(Unfit).toBeDefined();
});
