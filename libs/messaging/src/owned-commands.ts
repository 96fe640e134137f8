import { twoHandlers } from './consumer/handlers.js';
import type { MessageDefinition } from './definition.js';

/** What a queue handles. */
interface Handling {
  readonly queue: string;
  /** Names of the handlers by type. */
  readonly names: ReadonlyMap<string, string>;
}

/**
 * @param contracts whole modules of contracts may be given: only the commands of the service count
 * @throws Error that names the commands which two queues handle, and those of the service which nothing handles
 */
export function checkCommands(
  service: string,
  contracts: Readonly<Record<string, unknown>>,
  queues: readonly Handling[],
): void {
  const handled = new Map<string, string>();
  for (const { queue, names } of queues) {
    for (const [type, name] of names) {
      const place = `${name} of ${queue}`;
      const first = handled.get(type);
      // Each queue would get every command.
      if (first !== undefined) throw twoHandlers(type, `${first} and ${place}`);
      handled.set(type, place);
    }
  }
  const missing = Object.entries(contracts).filter(
    ([, contract]) => isCommandOf(service, contract) && !handled.has(contract.type),
  );
  if (missing.length === 0) return;
  const which = missing.map(([name, contract]) => `${name} (${(contract as MessageDefinition).type})`).join(', ');
  throw new Error(
    `${service} owns commands that nothing handles, so that they would become dead letters: ${which}; write a method with ` +
      '@OnCommand or @OnTask in a controller, list the actor in ActorModule.forFeature, or remove the contract',
  );
}

function isCommandOf(service: string, contract: unknown): contract is MessageDefinition {
  if (typeof contract !== 'object' || contract === null) return false;
  const { kind, owner, type } = contract as Partial<MessageDefinition>;
  return kind === 'command' && owner === service && typeof type === 'string';
}
