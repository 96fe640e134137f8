import 'reflect-metadata';
import { writeFile } from 'node:fs/promises';
import { parseOptions, usage } from './options.js';
import { benchmarks, runBenchmarks } from './run-benchmarks.js';
import { Servers } from './servers.js';

async function main(): Promise<number> {
  const names = Object.keys(benchmarks);
  const options = parseOptions(process.argv.slice(2), names);
  if (options === 'help') {
    console.log(usage(names));
    return 0;
  }
  console.log(`seed ${options.seed}, ${options.rounds} rounds, Node ${process.version}`);
  const servers = new Servers();
  try {
    const { results, failed } = await runBenchmarks(options, servers, (line) => console.log(line));
    if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify(results, undefined, 2)}\n`);
    return failed === 0 ? 0 : 1;
  } finally {
    await servers.stop();
  }
}

process.exitCode = await main().catch((error: unknown) => {
  console.error((error as Error).message);
  return 2;
});
