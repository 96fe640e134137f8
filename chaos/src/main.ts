import Table from 'cli-table3';
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { invariants } from './checks.js';
import { faults } from './faults.js';
import { completeness, recovery, runChaos, type FaultResult } from './run-chaos.js';

const usage = `Breaks the system in many ways while load runs, and checks that nothing is lost, doubled or out of order.

Usage: npm run test:chaos [-- options]

  --kills N      services killed in all; default: 30
  --seed N       the same choices again; default: a new seed, which is printed
  --fault TEXT   only faults whose name holds TEXT; may be given several times
  --short        what npm test runs: fewer faults, shorter
  --list         print the faults
  --help         print this`;

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        kills: { type: 'string', default: '30' },
        seed: { type: 'string' },
        fault: { type: 'string', multiple: true, default: [] },
        short: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    const chosen = faults.filter(
      ({ name, short }) =>
        (!values.short || short) &&
        (values.fault.length === 0 || values.fault.some((text) => name.toLowerCase().includes(text.toLowerCase()))),
    );
    if (chosen.length === 0) throw new Error(`no fault is called ${values.fault.join(' or ')}; --list prints them`);
    const seed = values.seed === undefined ? randomInt(1_000_000) : wholeNumber('--seed', values.seed);
    return { ...values, chosen, seed, kills: wholeNumber('--kills', values.kills) };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exit(2);
  }
}

function wholeNumber(option: string, text: string): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(number)) return number;
  throw new Error(`${option} is ${text}; give a whole number`);
}

function tableOf(results: readonly FaultResult[]): string {
  const columns = [...Object.keys(invariants), completeness, recovery];
  const table = new Table({
    head: ['fault', ...columns, 'kills', 'sent', 'effects', 'duplicates absorbed', 'recovered in'],
    style: { head: [], border: [] },
    wordWrap: true,
    colWidths: [44, ...columns.map(() => 12)],
  });
  for (const { fault, problems, kills, sent, effects, duplicates, recoveredIn } of results) {
    const held = columns.map((column) => (problems[column]?.length === 0 ? 'held' : 'BROKEN'));
    table.push([fault, ...held, kills, sent, effects, duplicates, `${recoveredIn.toFixed(1)} s`]);
  }
  return table.toString();
}

const options = readOptions();
if (options.help || options.list) {
  console.log(options.help ? usage : faults.map(({ name }) => name).join('\n'));
} else {
  console.log(`seed ${options.seed}; repeat with --seed ${options.seed}`);
  const results = await runChaos({
    seed: options.seed,
    kills: options.kills,
    faults: options.chosen,
    scale: options.short ? 0.3 : 1,
    report: (line) => console.log(line),
  });
  console.log(`\n${tableOf(results)}`);
  const broken = results.filter(({ problems }) => Object.values(problems).flat().length > 0).length;
  console.log(`${results.length - broken} of ${results.length} faults held, seed ${options.seed}`);
  process.exitCode = broken === 0 ? 0 : 1;
}
