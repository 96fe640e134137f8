import 'reflect-metadata';
import { Option } from '@commander-js/extra-typings';
import { Outbox } from '@starter/messaging';
import { TaskControl, taskStates, type Task } from '@starter/tasks';
import { operatorCommand, toWholeNumber, withDatabase, type OperatorOptions } from './operator.js';
import { newTable, print } from './output.js';
import { run } from './run.js';

const tasks = operatorCommand('tasks', 'Shows the tasks of a service, waits for their results and revokes them.');

const withTasks = (options: OperatorOptions, work: (control: TaskControl) => Promise<void>): Promise<void> =>
  withDatabase(options, async (dataSource) => {
    const [table] = await dataSource.query<{ found: boolean }[]>(`SELECT to_regclass('task') IS NOT NULL AS found`);
    if (!table?.found) throw new Error(`${options.service} has no tasks; name a service that imports TasksModule`);
    await work(new TaskControl({ service: options.service, dataSource, outbox: new Outbox() }));
  });

tasks
  .command('active')
  .description('those that run, the longest-running first')
  .action((_, command) => {
    const options = command.optsWithGlobals();
    return withTasks(options, async (control) => showAll(await control.active(), options));
  });

tasks
  .command('scheduled')
  .description('those that wait for their next attempt, and all commands that wait for their rate limit')
  .action((_, command) => {
    const options = command.optsWithGlobals();
    return withTasks(options, async (control) => {
      const found = await control.scheduled();
      if (options.json) return print(found.map((one) => JSON.stringify(one)));
      const table = newTable('id', 'name', 'waits for', 'due', 'attempts', 'error');
      for (const { id, name, waitsFor, dueAt, attempt, error } of found) {
        table.push([id, name ?? '', waitsFor, dueAt.toISOString(), attempt, error ?? '']);
      }
      await print([table.toString()]);
    });
  });

tasks
  .command('list')
  .description('the newest first')
  .addOption(new Option('--state <state>').choices(taskStates))
  .option('--type <type>', 'of the command: user.export')
  .option('--limit <count>', 'at most 1000', toWholeNumber, 20)
  .option('--after <id>', 'the last task of the page before')
  .action((_, command) => {
    const options = command.optsWithGlobals();
    return withTasks(options, async (control) => showAll(await control.list(options), options));
  });

tasks
  .command('show')
  .argument('<id>', 'of the task, which is that of its command')
  .description('PENDING when nothing is known of it: it may lie in the queue, or never come')
  .action((id, _, command) =>
    withTasks(command.optsWithGlobals(), async (control) => print([JSON.stringify(await control.find(id), null, 2)])),
  );

tasks
  .command('result')
  .argument('<id>')
  .option('--timeout <seconds>', 'how long it is waited for', toWholeNumber, 30)
  .description('waits until the task is over')
  .action((id, _, command) => {
    const options = command.optsWithGlobals();
    return withTasks(options, async (control) => {
      const task = await control.result(id, { timeoutMs: 1_000 * options.timeout });
      if (options.json) return print([JSON.stringify(task)]);
      await print([`${task.state}: ${task.state === 'SUCCESS' ? JSON.stringify(task.result) : task.error}`]);
    });
  });

tasks
  .command('revoke')
  .argument('<id>')
  .requiredOption('--reason <text>', 'told to whoever has sent it')
  .option('--terminate', 'end it at once, and undo what it has under way; otherwise it is asked to end')
  .description('a task that has not started never will; an id that is not known is revoked beforehand')
  .action((id, _, command) => {
    const options = command.optsWithGlobals();
    return withTasks(options, async (control) => {
      const task = await control.revoke(id, { terminate: options.terminate, reason: options.reason });
      if (options.json) return print([JSON.stringify(task)]);
      await print([task.endedAt ? `${id} is revoked` : `${id} runs, and is asked to end`]);
    });
  });

function showAll(found: readonly Task[], options: OperatorOptions): Promise<void> {
  if (options.json) return print(found.map((one) => JSON.stringify(one)));
  const table = newTable('id', 'name', 'state', 'progress', 'worker', 'attempt', 'started', 'arguments');
  for (const { id, name, state, progress, worker, attempt, startedAt, args } of found) {
    const percent = progress ? `${progress.percent} %` : '';
    const started = startedAt?.toISOString() ?? '';
    table.push([id, name ?? '', state, percent, worker ?? '', attempt, started, JSON.stringify(args).slice(0, 80)]);
  }
  return print([table.toString()]);
}

await run(tasks);
