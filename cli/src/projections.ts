import 'reflect-metadata';
import {
  projectionStatus,
  rebuildProjection,
  type ProjectionStatus,
  type RebuildProgress,
} from '@starter/event-sourcing';
import { Presets, SingleBar } from 'cli-progress';
import { operatorCommand, serviceOf, withDatabase } from './operator.js';
import { newTable, print } from './output.js';
import { run } from './run.js';

const projections = operatorCommand(
  'projections',
  'Shows how far the projections of a service are, and makes them anew.',
);

projections
  .command('status')
  .description('each projection: the stored events that are not in its rows yet, what waits and what has failed')
  .action((_, command) => {
    const options = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      const status = await projectionStatus(dataSource, await serviceOf(options).projections(dataSource));
      await print(options.json ? status.map((one) => JSON.stringify(one)) : [tableOf(status)]);
    });
  });

projections
  .command('rebuild')
  .description('writes its rows anew from the log, beside the live ones, and puts them in their place')
  .argument('<name>', 'user-directory')
  .action((name, _, command) => {
    const options = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      const all = await serviceOf(options).projections(dataSource);
      const found = all.find(({ projection }) => projection.name === name);
      if (!found) {
        const known = all.map(({ projection }) => projection.name).join(', ') || 'none';
        throw new Error(`${options.service} has no projection ${name}; it has: ${known}. Another --service?`);
      }
      const bar = new SingleBar({ etaBuffer: 50, stream: process.stderr }, Presets.shades_classic);
      const onProgress = ({ events, total }: RebuildProgress): void => {
        if (bar.isActive) bar.setTotal(total);
        else bar.start(total, 0);
        bar.update(events);
      };
      const started = performance.now();
      const events = await rebuildProjection({ dataSource, ...found, onProgress }).finally(() => bar.stop());
      const seconds = (performance.now() - started) / 1_000;
      await print([
        options.json
          ? JSON.stringify({ name, events, seconds })
          : `${name} was made anew from ${events} events in ${seconds.toFixed(1)} s`,
      ]);
    });
  });

function tableOf(status: readonly ProjectionStatus[]): string {
  const table = newTable('projection', 'kind', 'behind', 'waiting', 'failed', 'made anew');
  for (const { name, kind, behind, waiting, failed, tables, rebuiltAt } of status) {
    const anew = tables.length === 0 ? 'cannot be' : (rebuiltAt?.toISOString() ?? 'never');
    table.push([name, kind, behind, waiting, failed, anew]);
  }
  return table.toString();
}

await run(projections);
