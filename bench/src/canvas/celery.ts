import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { uniqueName } from '../servers.js';
import type { CanvasSystem, Done } from './canvas-system.js';
import { Child } from './child.js';
import type { Load } from './shapes.js';

const execute = promisify(execFile);
const folder = fileURLToPath(new URL('../../celery/', import.meta.url));

/** Celery with two worker processes, its messages in RabbitMQ and its results in Redis. */
export class Celery implements CanvasSystem {
  private readonly answers: Interface;

  private constructor(
    private readonly worker: Child,
    private readonly driver: Child,
  ) {
    this.answers = createInterface({ input: driver.process.stdout! });
  }

  static async start(rabbitMq: string, redis: string): Promise<Celery> {
    const bin = join(await installed(), 'bin');
    const environment = { RABBITMQ_URL: rabbitMq, REDIS_URL: redis, CELERY_QUEUE: uniqueName('celery') };
    // What workers tell each other is left out: it would only cost.
    const quiet = ['--without-gossip', '--without-mingle', '--without-heartbeat', '--loglevel', 'WARNING'];
    const command = [join(bin, 'celery'), '-A', 'tasks', 'worker', '--pool', 'prefork', '--concurrency', '2', ...quiet];
    const worker = new Child(command, environment, folder);
    const ping = ['-A', 'tasks', 'inspect', 'ping', '--timeout', '2'];
    const options = { cwd: folder, env: { ...process.env, ...environment } };
    await worker.ready('the worker of Celery', () => execute(join(bin, 'celery'), ping, options).then(() => true));
    return new Celery(worker, new Child([join(bin, 'python'), 'driver.py'], environment, folder));
  }

  prepare(): void {}

  async run(load: Load): Promise<Done> {
    this.driver.process.stdin!.write(`${JSON.stringify(load)}\n`);
    const line = await Promise.race([
      once(this.answers, 'line').then(([text]) => text as string),
      this.driver.exit.then(() => undefined),
    ]);
    if (line === undefined) throw new Error('the driver of Celery has ended; look for its errors above');
    return JSON.parse(line) as Done;
  }

  async stop(): Promise<void> {
    await Promise.all([this.driver.stop(), this.worker.stop()]);
  }
}

/** A virtual environment that has what `bench/celery/requirements.txt` asks for; made once. */
async function installed(): Promise<string> {
  const requirements = join(folder, 'requirements.txt');
  const hash = createHash('sha256')
    .update(await readFile(requirements))
    .digest('hex')
    .slice(0, 12);
  const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'microservice-starter');
  const environment = join(cache, `celery-${hash}`);
  if (existsSync(join(environment, 'bin', 'celery'))) return environment;
  await mkdir(cache, { recursive: true });
  try {
    await execute('python3', ['-m', 'venv', environment]);
    await execute(join(environment, 'bin', 'pip'), ['install', '--quiet', '--requirement', requirements]);
  } catch (error) {
    const remedy =
      'install Python 3.9 or newer with its venv module (Debian: python3-venv), and let pip reach its index';
    throw new Error(`Celery cannot be installed: ${(error as Error).message}\n${remedy}`, { cause: error });
  }
  return environment;
}
