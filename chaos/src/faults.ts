import { services, type ServiceName } from '@starter/contracts';
import type { Failpoint } from '@starter/messaging';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { killerCommand, killerEvent, thrower } from './bad-handlers.js';
import type { Behind } from './backends.js';
import { copyCommands, copyEvents, publishPoison, publishWithGap } from './copies.js';
import type { Fault } from './fault.js';
import { fullQueue, slowConsumer } from './overload.js';
import { workflowsUnderKills } from './workflows.js';
import { backendsComeLate, newInstances, replacedInTurn } from './rolling.js';
import type { ServiceProcess } from './service-process.js';
import type { Weather } from './tcp-proxy.js';

/** A process that is to die at a point which it does not pass any more dies all the same. */
const mostPatienceMs = 20_000;

/** Kills services at a named point, each life after a number of passes that chance decides. */
function killAt(name: string, points: Partial<Record<ServiceName, readonly Failpoint[]>>, short = false): Fault {
  return {
    name,
    killShare: 1,
    ...(short ? { short } : {}),
    inject: async ({ system, random, kills }) => {
      // One instance of each: where there are two, the other takes requests meanwhile.
      const targets = services.filter((service) => points[service]).map((service) => system.services[service]);
      // Each dies twice at least: the first death makes room for a life that has a failpoint.
      const chosen = random.shuffled(targets).slice(0, Math.max(1, Math.floor(kills / 2)));
      const ends = await Promise.allSettled(
        chosen.map(async (target, index) => {
          const share = Math.floor(kills / chosen.length) + (index < kills % chosen.length ? 1 : 0);
          const lives = Array.from({ length: share - 1 }, () => random.of(points[target.service]));
          await killEach(
            target,
            lives.map((point) => `${point}:kill@${random.upTo(12)}`),
          );
        }),
      );
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    },
  };
}

/**
 * Ends a process now, and each of its next lives at one of the failpoints; resolves when all of that has happened.
 * @throws Error when it ends in another way, as it does when it cannot start
 */
async function killEach(target: ServiceProcess, failpoints: readonly string[]): Promise<void> {
  const before = target.kills;
  const crashesBefore = target.crashes;
  target.killAt(failpoints);
  let movedAt = performance.now();
  for (let seen = target.kills; target.kills - before <= failpoints.length; await sleep(50)) {
    if (target.crashes > crashesBefore) throw new Error(`${target.name} ended by itself; read its log`);
    if (target.kills > seen) [seen, movedAt] = [target.kills, performance.now()];
    if (performance.now() - movedAt < mostPatienceMs) continue;
    target.kill();
    movedAt = performance.now();
  }
}

const each = (...points: readonly Failpoint[]): Record<ServiceName, readonly Failpoint[]> => ({
  'user-service': points,
  'email-service': points,
  orchestrator: points,
});

type BackendName = 'rabbitMq' | 'kafka' | 'postgres';

function restart(name: string, backend: BackendName, short = false): Fault {
  return {
    name,
    killShare: 0,
    ...(short ? { short } : {}),
    inject: async ({ system, scale }) => {
      const { server } = system.backends[backend];
      // RabbitMQ 3.10 needs up to 5 s to write the name of a queue down; load has run for longer than that.
      await sleep(2_000);
      await server.kill();
      await sleep(3_000 * scale);
      await server.start();
    },
  };
}

function weather(name: string, change: Weather, ms: number): Fault {
  return {
    name,
    killShare: 0,
    inject: async ({ system, scale }) => {
      for (const backend of ['rabbitMq', 'kafka', 'postgres'] as const) {
        await under(system.backends[backend], change, ms * scale);
        await sleep(1_000);
      }
    },
  };
}

async function under({ proxy }: Behind, change: Weather, ms: number): Promise<void> {
  proxy.set(change);
  await sleep(ms);
  proxy.clear();
}

export const faults: readonly Fault[] = [
  killAt('kill -9 before commit', each('transaction.before-commit'), true),
  killAt('kill -9 after commit, before relay', each('transaction.after-commit', 'outbox.before-publish'), true),
  killAt('kill -9 after publish, before confirm', each('outbox.before-confirm'), true),
  killAt('kill -9 after confirm, before delete', each('outbox.after-confirm'), true),
  killAt(
    'kill -9 after commit, before ack or offset',
    {
      'user-service': ['command.before-ack', 'event.before-offset'],
      'email-service': ['command.before-ack', 'email.after-send'],
      orchestrator: ['command.before-ack', 'event.before-offset'],
    },
    true,
  ),
  killAt('orchestrator killed between outcome and next command', {
    orchestrator: ['transaction.before-commit', 'transaction.after-commit', 'outbox.before-publish'],
  }),
  workflowsUnderKills,
  {
    name: 'each of two instances frozen by SIGSTOP in turn',
    killShare: 0,
    inject: async ({ system, scale }) => {
      // One of them holds the lease of the outbox.
      for (const instance of system.instancesOf('user-service')) {
        instance.signal('SIGSTOP');
        await sleep(30_000 * scale);
        instance.signal('SIGCONT');
        await sleep(2_000);
      }
    },
  },
  {
    name: 'sending takes longer than the lease of the outbox',
    killShare: 0,
    inject: async ({ system, scale }) => {
      // Two instances of each service: whoever lost its lease while it sends would be followed by the other with the same rows.
      for (const backend of ['rabbitMq', 'kafka'] as const) {
        await under(system.backends[backend], { kind: 'slow', ms: 250, bytes: 1_024 }, 20_000 * scale);
      }
    },
  },
  restart('RabbitMQ killed and restarted', 'rabbitMq', true),
  restart('Kafka killed and restarted', 'kafka'),
  restart('PostgreSQL killed and restarted', 'postgres'),
  {
    name: 'PostgreSQL backends terminated',
    killShare: 0,
    short: true,
    inject: async ({ system, scale }) => {
      for (let n = 0; n < 10 * scale; n++) {
        await sleep(500);
        await terminateBackends(system.backends.postgres.server.url);
      }
    },
  },
  {
    name: 'commit answered with a dead connection',
    killShare: 0,
    inject: async ({ system, scale }) => {
      const { proxy } = system.backends.postgres;
      for (let n = 0; n < 10 * scale; n++) {
        proxy.set({ kind: 'lost-answer', text: 'COMMIT' });
        await sleep(200);
        proxy.clear();
        await sleep(800);
      }
    },
  },
  weather('connections half-open', { kind: 'half-open' }, 15_000),
  {
    name: 'Kafka takes connections and answers nothing',
    killShare: 0,
    inject: async ({ system, scale }) => {
      // Longer than requests, sessions and reconnects take; nothing is reset afterwards.
      await under(system.backends.kafka, { kind: 'silent' }, 45_000 * scale);
    },
  },
  {
    name: 'half-open database, never reset',
    killShare: 0,
    inject: async ({ system, scale }) => {
      // Both ends believe in those connections for as long as they like: services and server have to find out by themselves.
      system.backends.postgres.proxy.loseAll();
      await sleep(60_000 * scale);
    },
  },
  weather('connections reset mid-frame', { kind: 'reset-mid-frame' }, 1_000),
  weather('connections slow', { kind: 'slow', ms: 20, bytes: 4_096 }, 10_000),
  {
    name: 'every message delivered 3 times, shuffled in windows of 100',
    killShare: 0,
    short: true,
    inject: async ({ system, random, scale }) => {
      const stop = [await copyCommands(system, random), await copyEvents(system, random)];
      await sleep(15_000 * scale);
      for (const end of stop) await end();
    },
  },
  {
    name: 'one sequence missing for a while',
    killShare: 0,
    inject: async ({ system, scale }) => {
      await publishWithGap(system, 8_000 * scale);
    },
  },
  {
    name: 'poison payloads',
    killShare: 0,
    short: true,
    deadLetters: 3,
    inject: async ({ system }) => publishPoison(system),
  },
  thrower,
  killerCommand,
  killerEvent,
  fullQueue,
  slowConsumer,
  newInstances,
  replacedInTurn,
  backendsComeLate,
];

async function terminateBackends(url: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname <> 'postgres'`,
  );
  await client.end();
}
