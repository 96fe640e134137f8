import TestSequencer from '@jest/test-sequencer';

/** Each has a system of its own to itself: side by side they would take the processor from each other. */
const [first, last] = [/chaos\.int\.spec/, /demo\.int\.spec/];

/** Jest's own order, but for the two heaviest specs, which are kept apart. */
export default class Sequencer extends TestSequencer {
  sort(tests) {
    const rank = ({ path }) => (first.test(path) ? 0 : last.test(path) ? 2 : 1);
    return super.sort(tests).sort((one, other) => rank(one) - rank(other));
  }
}
