import {
  commandsExchange,
  done,
  MemoryCommandTransport,
  MemoryEventTransport,
  replyFor,
  type Answer,
  type CommandTransport,
  type Message,
} from '@starter/messaging';
import type { BaseSettings, RunningService, ServiceDefinition } from '@starter/service';
import { createTestDatabase, type TestDatabase } from './test-database.js';

/** What a service needs: a database of its own, and brokers in memory unless others are given. */
export class ServiceBackends {
  readonly events = new MemoryEventTransport();

  private constructor(
    readonly database: TestDatabase,
    readonly commands: CommandTransport,
  ) {}

  static async open(commands: CommandTransport = new MemoryCommandTransport()): Promise<ServiceBackends> {
    return new ServiceBackends(await createTestDatabase(), commands);
  }

  async start<Settings extends BaseSettings>(
    definition: ServiceDefinition<Settings>,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<RunningService> {
    // Not before it is needed: most specs have no use for HTTP.
    const { readSettings, startService } = await import('@starter/service');
    const environment = { DATABASE_URL: this.database.url, PORT: '0', LOG_LEVEL: 'silent', ...settings };
    return startService(definition, { settings: readSettings(definition.settings, environment), transports: this });
  }

  /** Stands in for the services that handle these commands: answers each that asks for a reply, so often as there are answers. */
  async answer(types: readonly string[], answersTo: (message: Message) => readonly Answer[]): Promise<void> {
    const queue = 'other-services.commands';
    await this.commands.declare({
      exchanges: [{ name: commandsExchange, type: 'direct' }],
      queues: [{ name: queue }],
      bindings: types.map((routingKey) => ({ exchange: commandsExchange, queue, routingKey })),
    });
    await this.commands.consume(queue, async ({ message }) => {
      if (!message.replyTo) return done;
      for (const answer of answersTo(message)) {
        const reply = replyFor(message, answer, 'spec');
        if (reply) await this.commands.send(reply, { routingKey: message.replyTo.address });
      }
      return done;
    });
  }

  /** After the services have stopped. */
  async close(): Promise<void> {
    await Promise.all([this.commands.close(), this.events.close()]);
    await this.database.drop();
  }
}
