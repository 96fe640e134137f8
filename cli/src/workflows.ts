import { Command, InvalidArgumentError, Option } from '@commander-js/extra-typings';
import { readFile } from 'node:fs/promises';
import { newTable, print } from './output.js';
import { run } from './run.js';

interface Options {
  readonly url: string;
  readonly json?: true | undefined;
}

interface Listed {
  readonly workflows: readonly {
    readonly id: string;
    readonly name: string;
    readonly state: string;
    readonly startedAt: string;
  }[];
  readonly next?: string;
}

/** Workflows are decided by the orchestrator alone, so this asks it over HTTP and touches no database. */
const workflows = new Command('npm run workflows --')
  .description('Starts, shows and steers workflows.')
  .addOption(new Option('--url <url>', 'of the orchestrator').env('ORCHESTRATOR_URL').default('http://127.0.0.1:3000'))
  .option('--json', 'for programs: JSON, one value per line')
  .configureHelp({ showGlobalOptions: true });

workflows
  .command('list')
  .description('the newest first')
  .option('--state <state>', 'running, compensating, stuck, completed or failed')
  .option('--limit <n>', 'how many, at most 100', '20')
  .option('--after <cursor>', 'reads on where the list before has ended')
  .action(async ({ state, limit, after }, command) => {
    const options = command.optsWithGlobals();
    const query = new URLSearchParams({ limit, ...(state ? { state } : {}), ...(after ? { after } : {}) });
    const page = (await ask(options, `?${query.toString()}`)) as Listed;
    if (options.json) return print(page.workflows.map((one) => JSON.stringify(one)));
    const table = newTable('id', 'name', 'state', 'started');
    for (const { id, name, state: now, startedAt } of page.workflows) table.push([id, name, now, startedAt]);
    await print([table.toString(), ...(page.next === undefined ? [] : [`more: --after ${page.next}`])]);
  });

workflows
  .command('show')
  .description('where it is, what it waits for, what it has done, and the definition that it follows')
  .argument('<id>')
  .option('--state <state>', 'only steps that are requested, succeeded, failed or timedOut')
  .option('--limit <n>', 'how many steps, at most 1000', '100')
  .option('--after <next>', 'reads on: `next` of the answer before')
  .action((id, { state, limit, after }, command) => {
    const query = new URLSearchParams({ limit, ...(state ? { state } : {}), ...(after ? { after } : {}) });
    return show(command.optsWithGlobals(), `/${id}?${query.toString()}`);
  });

workflows
  .command('start')
  .description('by the name of a workflow of the orchestrator, or from a definition')
  .argument('<name>')
  .argument('<input>', 'JSON', asJson)
  .option('--definition <file>', 'JSON; its schema is at GET /workflows/definition-schema')
  .option('--idempotency-key <key>', 'the same key starts it once')
  .action(async (workflow, input, { definition: file, idempotencyKey }, command) => {
    const definition = file === undefined ? {} : { definition: asJson(await readFile(file, 'utf8')) };
    await show(command.optsWithGlobals(), '', { workflow, input, ...definition }, keyHeader(idempotencyKey));
  });

workflows
  .command('result')
  .description('what came of it; waits until it is over or stuck')
  .argument('<id>')
  .option('--timeout <duration>', 'at most 60s', '30s')
  .action((id, { timeout }, command) => show(command.optsWithGlobals(), `/${id}/result?timeout=${timeout}`));

workflows
  .command('cancel')
  .description('ends it as if it had failed: what was done is undone')
  .argument('<id>')
  .requiredOption('--reason <text>', 'it is recorded')
  .option('--path <path>', 'only this node, as 0.2; what it is in goes on as after a failure of it')
  .option(
    '--terminate',
    'end its tasks that are under way at once, and undo what they have not committed; otherwise they are asked to end',
  )
  .action((id, { reason, path, terminate = false }, command) =>
    show(command.optsWithGlobals(), `/${id}/cancel`, { reason, terminate, ...(path === undefined ? {} : { path }) }),
  );

workflows
  .command('unstick')
  .description('says what to do about the compensation at which it is stuck')
  .argument('<id>')
  .argument('<path>', 'of that compensation')
  .argument('<remedy>', 'retry, skip (leave it) or resume (it was undone by hand)')
  .action((id, path, remedy, _, command) => show(command.optsWithGlobals(), `/${id}/unstick`, { path, remedy }));

workflows
  .command('resolve')
  .description('says what became of a request that nobody has answered, of a task or of a compensation')
  .argument('<id>')
  .argument('<request-id>', 'of a step, as `show` names it')
  .argument('<remedy>', 'succeed, fail, retry or skip (go on without it)')
  .option('--result <json>', 'with succeed: what it led to', asJson)
  .option('--reason <text>', 'it is recorded')
  .action((id, requestId, remedy, { result, reason }, command) =>
    show(command.optsWithGlobals(), `/${id}/requests/${requestId}/resolve`, {
      remedy,
      ...(result === undefined ? {} : { result }),
      ...(reason === undefined ? {} : { reason }),
    }),
  );

workflows
  .command('fork')
  .description('another workflow that goes on at a step of this one, with the results of the steps before it')
  .argument('<id>')
  .argument('<from>', 'a step of its chain, as 0.2')
  .option('--idempotency-key <key>', 'the same key forks it once')
  .action((id, from, { idempotencyKey }, command) =>
    show(command.optsWithGlobals(), `/${id}/fork`, { from }, keyHeader(idempotencyKey)),
  );

async function show(
  options: Options,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<void> {
  const answer = await ask(options, path, body, headers);
  await print([options.json ? JSON.stringify(answer) : JSON.stringify(answer, null, 2)]);
}

/** @throws Error with what the orchestrator says to it, or that it cannot be reached */
async function ask(
  { url }: Options,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<unknown> {
  const { ACCESS_TOKEN: token } = process.env;
  const authorization = token ? { authorization: `Bearer ${token}` } : {};
  const sent = { 'content-type': 'application/json', ...headers, ...authorization };
  const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
  const response = await fetch(`${url}/workflows${path}`, { ...init, headers: sent }).catch((error: unknown) => {
    throw new Error(`no orchestrator answers at ${url}; start it, or name its --url`, { cause: error });
  });
  const answer = (await response.json()) as { detail?: string; errors?: readonly { field: string; message: string }[] };
  if (response.ok) return answer;
  if (response.status === 401) throw new Error('the orchestrator does not know you: set ACCESS_TOKEN (docs/access.md)');
  const errors = answer.errors?.map(({ field, message }) => `\n  ${field}: ${message}`) ?? [];
  throw new Error(`${answer.detail ?? response.statusText}${errors.join('')}`);
}

const keyHeader = (key: string | undefined): Record<string, string> =>
  key === undefined ? {} : { 'idempotency-key': key };

function asJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new InvalidArgumentError(`It is no JSON: ${(error as Error).message}`);
  }
}

await run(workflows);
