import { spawnSync } from 'node:child_process';

/** It measures how fast a whole system recovers, so nothing else may take the processor from it. */
const alone = 'chaos/src/chaos.int.spec.ts';

/** Kafka's brokers live for minutes: Java is quicker with code compiled at once than with code compiled well. */
const env = { JDK_JAVA_OPTIONS: '-XX:TieredStopAtLevel=1', ...process.env };

/** @returns the exit code */
function jest(...args) {
  const node = ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning', 'node_modules/jest/bin/jest.js'];
  return spawnSync(process.execPath, [...node, ...args], { stdio: 'inherit', env }).status ?? 1;
}

// What the command line chooses is run as it says; everything is run one after the other, up to the first failure.
const chosen = process.argv.slice(2);
process.exitCode =
  chosen.length > 0
    ? jest(...chosen)
    : jest(alone) || jest('--testPathIgnorePatterns', '/node_modules/', '/dist/', alone);
