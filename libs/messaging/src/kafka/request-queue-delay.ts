import { createRequire } from 'node:module';

interface RequestQueue {
  readonly pending: readonly unknown[];
  readonly throttledUntil: number;
  scheduleCheckPendingRequests: () => void;
}

const require = createRequire(import.meta.url);
const { prototype } = require('kafkajs/src/network/requestQueue/index.js') as { readonly prototype: RequestQueue };
const schedule = prototype.scheduleCheckPendingRequests;

/**
 * After every answer kafkajs 2.2.4 sets a timer of `throttledUntil - now`, that is of minus half a century while nothing
 * throttles it; no configuration avoids that, and Node 24 prints a TimeoutNegativeWarning (kafkajs #1751). With nothing
 * pending and no throttling there is nothing to check, so the timer is set only when its delay is a real one.
 */
prototype.scheduleCheckPendingRequests = function (this: RequestQueue): void {
  if (this.pending.length > 0 || this.throttledUntil > Date.now()) schedule.call(this);
};
