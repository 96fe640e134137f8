import 'reflect-metadata';
import { openGaps, skipGap, skipGaps, type Gap } from '@starter/messaging';
import { operatorCommand, toInstant, toWholeNumber, withDatabase } from './operator.js';
import { newTable, print } from './output.js';
import { run } from './run.js';

const gaps = operatorCommand(
  'gaps',
  'Shows events that are missing while later ones wait for them, and gives them up.',
);

gaps
  .command('list')
  .description('those past their deadline, the longest open first')
  .option('--consumer <name>', 'only of this consumer')
  .option('-n, --lines <count>', 'how many', toWholeNumber, 100)
  .action((_, command) => {
    const { consumer = null, lines: limit, ...options } = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      const found = await openGaps(dataSource, { consumer, limit });
      await print(options.json ? found.map((gap) => JSON.stringify(gap)) : [tableOf(found)]);
    });
  });

gaps
  .command('skip')
  .description('lets those behind them go on; look first whether the missing ones can be published again')
  .argument('<consumer>', 'as the list gives it')
  .argument('<key>', 'user-0190…')
  .requiredOption('--up-to <sequence>', 'the last that is given up', toWholeNumber)
  .requiredOption('--reason <text>', 'why: it is kept')
  .action((consumer, key, _, command) => {
    const { upTo, reason, ...options } = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      await skipGap(dataSource, { consumer, key, upTo, reason });
      const skipped = { consumer, key, upTo };
      await print([options.json ? JSON.stringify(skipped) : `${consumer} goes on with ${key} behind ${upTo}`]);
    });
  });

gaps
  .command('skip-all')
  .description('gives up what is missing of all keys of a consumer, as the list shows it')
  .argument('<consumer>', 'as the list gives it')
  .option('--before <time>', 'only of those whose successors wait since before then: 2026-01-31T12:00:00Z', toInstant)
  .requiredOption('--reason <text>', 'why: it is kept')
  .action((consumer, _, command) => {
    const { before, reason, ...options } = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      const keys = await skipGaps(dataSource, { consumer, reason, ...(before === undefined ? {} : { before }) });
      await print([options.json ? JSON.stringify({ consumer, keys }) : `${consumer} goes on with ${keys} keys`]);
    });
  });

function tableOf(found: readonly Gap[]): string {
  const table = newTable('since', 'consumer', 'key', 'missing');
  for (const { since, consumer, key, missingFrom, missingTo } of found) {
    const missing = missingFrom === missingTo ? `${missingFrom}` : `${missingFrom} to ${missingTo}`;
    table.push([since.toISOString(), consumer, key, missing]);
  }
  return table.toString();
}

await run(gaps);
