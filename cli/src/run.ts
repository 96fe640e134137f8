import type { CommandUnknownOpts } from '@commander-js/extra-typings';

/**
 * Runs it with the arguments of this process. Exits with 1 and a message when that fails.
 *
 * Not in operator.ts: what needs no database starts ten times as fast without the libraries for one.
 */
export async function run(command: CommandUnknownOpts): Promise<void> {
  try {
    await command.parseAsync();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
