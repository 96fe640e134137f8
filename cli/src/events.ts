import 'reflect-metadata';
import { Option } from '@commander-js/extra-typings';
import {
  archiveStreams,
  eventLines,
  lastEventLines,
  restoreStreams,
  stateAt,
  streamId,
  type Actor,
  type Moment,
} from '@starter/event-sourcing';
import { resolve } from 'node:path';
import { follow } from './follow.js';
import {
  operatorCommand,
  serviceOf,
  toInstant,
  toWholeNumber,
  withDatabase,
  type OperatorOptions,
} from './operator.js';
import { eachOf, feedRow, print, printExactly, showProgress, tableHead, tableRow, writeFileOf } from './output.js';
import { run } from './run.js';

const events = operatorCommand(
  'events',
  'Looks into the event log of a service, and moves its past to files and back.',
);

events
  .command('tail')
  .description('the last events, oldest first')
  .option('-n, --lines <count>', 'how many', toWholeNumber, 10)
  .option('-f, --follow', 'go on with the new ones')
  .option('--type <type>', 'only events of this type: user.registered')
  .option('--stream <id>', 'only events of this stream')
  .action((_, command) => {
    const { lines, follow: following, type, stream, ...options } = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      const filter = { type, stream };
      const found = following ? follow(dataSource, lines, filter) : await lastEventLines(dataSource, lines, filter);
      await print(options.json ? found : shown(found, feedRow));
    });
  });

events
  .command('show')
  .description('the events of a stream')
  .argument('<stream>', 'user-0190…')
  .action((stream, _, command) => {
    const options = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      let count = 0;
      const found = eachOf(eventLines(dataSource, { stream }), () => (count += 1));
      await print(options.json ? found : shown(found, tableRow, tableHead));
      if (count > 0) return;
      const what = `there is no stream ${stream} in the database of ${options.service}`;
      throw new Error(`${what}; look for it with tail, or choose another --service`);
    });
  });

events
  .command('export')
  .description('events as lines of JSON, stream by stream')
  .option('--to <file>', 'where to; - is the standard output', '-')
  .option('--type <type>', 'only events of this type')
  .option('--stream <id>', 'only events of this stream')
  .option('--since <time>', 'recorded then or later', toInstant)
  .option('--until <time>', 'recorded before', toInstant)
  .action((_, command) => {
    const { to, type, stream, since, until, ...options } = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      const lines = eventLines(dataSource, { type, stream, since, until });
      if (to === '-') return printExactly(lines);
      const count = await writeFileOf(lines, resolve(to));
      await print([options.json ? JSON.stringify({ events: count, file: resolve(to) }) : `${count} events in ${to}`]);
    });
  });

events
  .command('state')
  .description('an actor as it is, or as it was')
  .argument('<stream>', 'user-0190…')
  .addOption(new Option('--at-version <n>', 'after its n-th event').argParser(toWholeNumber).conflicts('atTime'))
  .addOption(new Option('--at-time <time>', 'at an instant').argParser(toInstant))
  .action((stream, _, command) => {
    const { atVersion, atTime, ...options } = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      const actor = await actorOf(options, stream);
      const moment: Moment = atTime ? { time: atTime } : { version: atVersion ?? Infinity };
      const past = await stateAt(dataSource, actor, stream.slice(streamId(actor, '').length), moment);
      const state = actor.snapshot ? actor.snapshot.schema.encode(past.state) : past.state;
      if (options.json) return print([JSON.stringify({ stream, ...past, state })]);
      const when = past.time
        ? `after event ${past.sequence}, recorded ${past.time.toISOString()}`
        : 'before its first event';
      await print([`${stream} ${when}`, JSON.stringify(state, undefined, 2)]);
    });
  });

events
  .command('archive')
  .description('move the past of streams at rest to a file; what is in there already stays')
  .requiredOption('--before <time>', 'streams whose last event was recorded before', toInstant)
  .requiredOption('--to <file>', 'the archive: keep it')
  .option('--actor <name>', 'only streams whose ids begin with <name>-')
  .action((_, command) => {
    const { before, to, actor, ...options } = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      const file = resolve(to);
      const onProgress = ({ streams, events: moved }: { streams: number; events: number }) =>
        showProgress(`${moved} events of ${streams} streams archived`);
      const archived = await archiveStreams({ dataSource, before, file, actor, onProgress });
      showProgress('');
      if (options.json) return print([JSON.stringify({ ...archived, file })]);
      const skipped = archived.skipped > 0 ? `; ${archived.skipped} streams went on meanwhile and stay` : '';
      await print([`${archived.events} events of ${archived.streams} streams are in ${file}${skipped}`]);
    });
  });

events
  .command('restore')
  .description('put archived events back into the log: all of a file, or none')
  .argument('<file>', 'the archive')
  .action((path, _, command) => {
    const options = command.optsWithGlobals();
    return withDatabase(options, async (dataSource) => {
      const file = resolve(path);
      const onProgress = (lines: number) => showProgress(`${lines} lines read`);
      const restored = await restoreStreams({ dataSource, file, onProgress });
      showProgress('');
      if (options.json) return print([JSON.stringify({ ...restored, file })]);
      const others = restored.passedOver > 0 ? `; ${restored.passedOver} lines were passed over: not archived` : '';
      await print([`${restored.events} events of ${restored.streams} streams are in the log again${others}`]);
    });
  });

await run(events);

/** Lines for humans; no head without rows. */
async function* shown(
  lines: AsyncIterable<string> | Iterable<string>,
  row: (line: string) => string,
  head?: string,
): AsyncGenerator<string> {
  let next = head;
  for await (const line of lines) {
    if (next !== undefined) yield next;
    next = undefined;
    yield row(line);
  }
}

/** Of the actors whose streams may be called so the one with the longest name. */
async function actorOf(options: OperatorOptions, stream: string): Promise<Actor<unknown>> {
  const actors = await serviceOf(options).actors();
  const fitting = actors.filter((actor) => stream.startsWith(streamId(actor, '')));
  const [actor] = fitting.sort((a, b) => b.name.length - a.name.length);
  if (actor) return actor;
  const known = actors.map(({ name }) => name).join(', ');
  const what = `${stream} is no stream of an actor of ${options.service} (${known})`;
  throw new Error(`${what}; choose another one with --service`);
}
