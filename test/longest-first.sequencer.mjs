import { relative } from 'node:path';
import TestSequencer from '@jest/test-sequencer';

/**
 * What takes longest on a fresh clone, longest first. Jest learns that from the runs before; without any it goes by the sizes of
 * the files, and a short spec that starts whole systems would begin when all others have ended, with one processor idle.
 */
const longest = [
  'test/demo.int.spec.ts',
  'libs/testing/src/simulation/simulation.int.spec.ts',
  'cli/src/events.int.spec.ts',
  'libs/messaging/src/transport/event-transport.int.spec.ts',
  'cli/src/projections.int.spec.ts',
  'cli/src/dead-letters.int.spec.ts',
  'test/contention.int.spec.ts',
  'libs/messaging/src/transport/command-transport.int.spec.ts',
  'bench/src/bench.int.spec.ts',
  'test/onboarding.int.spec.ts',
  'test/erasure.int.spec.ts',
  'libs/local-backends/src/local-backends.int.spec.ts',
];

export default class LongestFirst extends TestSequencer {
  sort(tests) {
    const rank = ({ path, context }) => {
      const place = longest.indexOf(relative(context.config.rootDir, path).replaceAll('\\', '/'));
      return place < 0 ? longest.length : place;
    };
    // Sorting is stable: the others stay in Jest's order.
    return [...super.sort(tests)].sort((one, other) => rank(one) - rank(other));
  }
}
