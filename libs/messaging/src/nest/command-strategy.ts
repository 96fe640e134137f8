import type { Messaging } from '../messaging.js';
import { MessageStrategy } from './message-strategy.js';

/** Binds `@OnCommand` and `@OnTask` to this strategy only, in an application with several. */
export const commandStrategy = Symbol('CommandStrategy');

/** Registers the methods with the command queue of the service, and with the queue of its tasks. */
export class CommandStrategy extends MessageStrategy<Messaging> {
  override readonly transportId = commandStrategy;

  constructor(protected readonly target: Messaging) {
    super();
  }
}
