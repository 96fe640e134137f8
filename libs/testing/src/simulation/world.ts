import type { MemoryCommandBroker, MemoryEventLog } from '@starter/messaging';
import type { Faults } from './faults.js';

/** What outlives every process. */
export interface World {
  readonly faults: Faults;
  readonly broker: MemoryCommandBroker;
  readonly log: MemoryEventLog;
  /** Of the database. */
  readonly url: string;
  /** How long the leases of the processes hold, in milliseconds. */
  readonly leaseMs: number;
  /** A process that is alone sends what it has committed without reading it. */
  readonly handOver: boolean;
}
