import 'reflect-metadata';
import { RateLimits } from '@starter/messaging';
import { operatorCommand, withDatabase } from './operator.js';
import { newTable, print } from './output.js';
import { run } from './run.js';

const rateLimits = operatorCommand(
  'rate-limits',
  'Shows how many commands of a type a service handles in a time, and changes that while it runs.',
);

rateLimits
  .command('list')
  .description('the limits that were set here, and the commands that wait; limits of the code stand there')
  .action((_, command) => {
    const options = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      const found = await new RateLimits(dataSource).list();
      if (options.json) return print(found.map((one) => JSON.stringify(one)));
      const table = newTable('type', 'limit', 'waiting');
      for (const { type, rate, waiting } of found) table.push([type, rate ?? 'as in the code', waiting]);
      await print([table.toString()]);
    });
  });

rateLimits
  .command('set')
  .description('all processes follow within about a second, and so do the commands that wait')
  .argument('<type>', 'of the command: email.send')
  .argument('<rate>', '100/h, 5/s, none, or code for what the code says')
  .action((type, rate, _, command) => {
    const options = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      await new RateLimits(dataSource).set(type, rate === 'code' ? null : rate);
      await print([options.json ? JSON.stringify({ type, rate }) : `${type}: ${rate}`]);
    });
  });

await run(rateLimits);
