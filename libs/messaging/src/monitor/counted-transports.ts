import { publishResults } from '../errors.js';
import type { CommandTransport } from '../transport/command-transport.js';
import type { EventTransport } from '../transport/event-transport.js';

/** Told of messages that a broker has confirmed, and of attempts that it has not. */
export interface PublicationListener {
  published(channel: 'command' | 'event', type: string): void;
  failed(channel: 'command' | 'event'): void;
}

/** The transport, with what is sent through it counted. */
export function countedCommands(transport: CommandTransport, listener: PublicationListener): CommandTransport {
  return {
    get connected() {
      return transport.connected;
    },
    longestSendMs: transport.longestSendMs,
    declare: (topology) => transport.declare(topology),
    consume: (queue, handler, options) => transport.consume(queue, handler, options),
    consumeDeadLetters: (queue, handler) => transport.consumeDeadLetters(queue, handler),
    close: () => transport.close(),
    send: (message, options) =>
      transport.send(message, options).then(
        () => listener.published('command', message.type),
        (error: unknown) => {
          listener.failed('command');
          throw error;
        },
      ),
  };
}

/** The transport, with what is published through it counted. */
export function countedEvents(transport: EventTransport, listener: PublicationListener): EventTransport {
  return {
    get connected() {
      return transport.connected;
    },
    longestSendMs: transport.longestSendMs,
    declare: (topics) => transport.declare(topics),
    subscribe: (options, handler) => transport.subscribe(options, handler),
    close: () => transport.close(),
    async publish(topic, messages) {
      try {
        const positions = await transport.publish(topic, messages);
        for (const { type } of messages) listener.published('event', type);
        return positions;
      } catch (error) {
        publishResults(error, messages.length).forEach((result, index) => {
          const { type = '' } = messages[index] ?? {};
          if (!(result instanceof Error)) listener.published('event', type);
        });
        listener.failed('event');
        throw error;
      }
    },
  };
}
