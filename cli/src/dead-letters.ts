import 'reflect-metadata';
import { Option } from '@commander-js/extra-typings';
import * as contracts from '@starter/contracts';
import {
  DeadLetters,
  redact,
  type DeadLetter,
  type DeadLetterFilter,
  type Message,
  type MessageDefinition,
  type Selection,
} from '@starter/messaging';
import { resolve } from 'node:path';
import type { DataSource } from 'typeorm';
import { operatorCommand, toInstant, toWholeNumber, withDatabase, type OperatorOptions } from './operator.js';
import { newTable, print, printExactly, writeFileOf } from './output.js';
import { run } from './run.js';

const deadLetters = operatorCommand(
  'dead-letters',
  'Shows the messages that a service could not handle, and has them tried again or gives them up.',
);

const status = () =>
  new Option(
    '--status <status>',
    'open, or scheduled: on its way again, or discarded: given up as invalid, refused by a rule, or by an operator',
  ).choices(['open', 'scheduled', 'discarded'] as const);

/** A subcommand with the options that say which dead letters are meant. */
const filtered = (name: string, description: string) =>
  deadLetters
    .command(name)
    .description(description)
    .option('--consumer <name>', 'of this queue or consumer group: user-service.commands')
    .option('--type <type>', 'of this message type: user.register')
    .option('--error <type>', 'with this kind of error: RetriesExhausted')
    .option('--key <id>', 'of this stream: user-0190…')
    .option('--since <time>', 'failed then or later', toInstant)
    .option('--until <time>', 'failed before', toInstant)
    .option('--text <text>', 'with this text in the reason or in the message');

filtered('list', 'the newest first')
  .option('-n, --lines <count>', 'how many', toWholeNumber, 20)
  .option('--after <place>', 'the page behind this one')
  .addOption(status())
  .action((_, command) => {
    const { lines, after, status, ...options } = command.optsWithGlobals();
    return withDeadLetters(options, async (letters) => {
      const page = await letters.list(
        { ...filterOf(options), status },
        { limit: lines, ...(after === undefined ? {} : { after }) },
      );
      if (options.json) return print([...page.items, ...(page.next ? [{ next: page.next }] : [])].map(toLine));
      await print([tableOf(page.items), ...(page.next ? [`more with --after ${page.next}`] : [])]);
    });
  });

filtered('groups', 'how many of each consumer, type and kind of error, and when')
  .addOption(status())
  .action((_, command) => {
    const { status, ...options } = command.optsWithGlobals();
    return withDeadLetters(options, async (letters) => {
      const groups = await letters.groups({ ...filterOf(options), status });
      if (options.json) return print(groups.map(toLine));
      const table = newTable('count', 'consumer', 'type', 'error', 'first', 'last');
      for (const { count, consumer, type, errorType, first, last } of groups) {
        table.push([count, consumer, type ?? '-', errorType, first, last]);
      }
      await print([table.toString()]);
    });
  });

deadLetters
  .command('show')
  .description('a dead letter with its message and its history')
  .argument('<id>', 'of the message, as the list gives it')
  .option('--consumer <name>', 'only of this consumer')
  .action((id, _, command) => {
    const { consumer, ...options } = command.optsWithGlobals();
    return withDeadLetters(options, async (letters) => {
      const found = await letters.show(id, consumer);
      if (found.length === 0) {
        throw new Error(`${options.service} has no dead letter ${id}; list them, or choose another --service`);
      }
      await print(found.map((one) => (options.json ? toLine(one) : JSON.stringify(one, undefined, 2))));
    });
  });

filtered('redrive', 'give them to their consumers again: these, those that fit, or all')
  .argument('[ids...]', 'of the messages')
  .option('--all', 'all that are open')
  .option('--discarded', 'of those that were discarded, and not of those that are open')
  .option('--yes', 'also those that could take effect twice, or out of their order')
  .addOption(
    new Option('--retention-days <days>', 'how long the inbox of the service remembers')
      .env('INBOX_RETENTION_DAYS')
      .default(30)
      .argParser(toWholeNumber),
  )
  .action((ids, _, command) => {
    const options = command.optsWithGlobals();
    const dedupeRetentionMs = options.retentionDays * 86_400_000;
    return withDeadLetters({ ...options, dedupeRetentionMs }, async (letters) => {
      const confirmed = options.yes ?? false;
      const chosen = selectionOf(ids, options);
      const result = await letters.redrive(
        options.discarded ? { ...(chosen === 'all' ? {} : chosen), status: 'discarded' } : chosen,
        { confirmOld: confirmed, confirmLate: confirmed },
      );
      const skipped = result.skipped > 0 ? `; ${result.skipped} cannot be: export and discard them` : '';
      await print([options.json ? toLine(result) : `${result.redriven} redriven${skipped}`]);
    });
  });

filtered('discard', 'give them up: they are recorded with the reason, and whoever waits for a reply is told')
  .argument('[ids...]', 'of the messages')
  .option('--all', 'all that are open')
  .requiredOption('--reason <text>', 'why')
  .action((ids, _, command) => {
    const options = command.optsWithGlobals();
    return withDeadLetters(options, async (letters) => {
      const result = await letters.discard(selectionOf(ids, options), options.reason);
      await print([options.json ? toLine(result) : `${result.discarded} discarded`]);
    });
  });

filtered('export', 'as lines of JSON, with their messages and their history')
  .addOption(status())
  .option('--to <file>', 'where to; - is the standard output', '-')
  .action((_, command) => {
    const { to, status, ...options } = command.optsWithGlobals();
    return withDeadLetters(options, async (letters) => {
      const lines = letters.lines({ ...filterOf(options), status });
      if (to === '-') return printExactly(lines);
      const count = await writeFileOf(lines, resolve(to));
      await print([options.json ? toLine({ count, file: resolve(to) }) : `${count} dead letters in ${to}`]);
    });
  });

interface FilterOptions extends Omit<DeadLetterFilter, 'ids' | 'errorType' | 'status'> {
  readonly error?: string | undefined;
}

function filterOf({ consumer, type, error, key, since, until, text }: FilterOptions): Omit<DeadLetterFilter, 'status'> {
  return { consumer, type, errorType: error, key, since, until, text };
}

function selectionOf(ids: readonly string[], options: FilterOptions & { readonly all?: true | undefined }): Selection {
  const filter = { ...filterOf(options), ...(ids.length > 0 ? { ids } : {}) };
  const said = Object.values(filter).some((value) => value !== undefined);
  if (said === Boolean(options.all)) throw new Error('say which: ids, a filter like --type, or --all');
  return said ? filter : 'all';
}

function withDeadLetters(
  options: OperatorOptions & { readonly dedupeRetentionMs?: number },
  work: (letters: DeadLetters) => Promise<void>,
): Promise<void> {
  return withDatabase(options, (dataSource: DataSource) =>
    work(new DeadLetters({ ...options, dataSource, redact: withoutPersonalData })),
  );
}

/** Of types that the contracts know. */
function withoutPersonalData(message: Message): Message {
  const definitions = Object.values(contracts).filter(
    (one): one is typeof one & MessageDefinition => typeof one === 'object' && 'schema' in one && 'type' in one,
  );
  const definition = definitions.find(({ type }) => type === message.type);
  return definition ? { ...message, ...redact(definition, message) } : message;
}

const toLine = (value: unknown): string => JSON.stringify(value);

function tableOf(items: readonly DeadLetter[]): string {
  const table = newTable('failed', 'consumer', 'type', 'key', 'error', 'reason', 'redrives', 'id');
  for (const { failedAt, consumer, type, key, sequence, errorType, reason, redrives, id } of items) {
    const place = `${key ?? '-'}${sequence === null ? '' : ` #${sequence}`}`;
    table.push([failedAt, consumer, type ?? '-', place, errorType, short(reason), redrives, id]);
  }
  return table.toString();
}

const short = (text: string): string => {
  const line = text.replaceAll(/\s+/g, ' ');
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
};

await run(deadLetters);
