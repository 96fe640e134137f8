import { services } from '@starter/contracts';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Fault } from './fault.js';
import type { ServiceProcess } from './service-process.js';
import { whenReady } from './system.js';

export const newInstances: Fault = {
  name: 'a new instance every 5 s, ended by SIGTERM',
  killShare: 0,
  inject: async ({ system, scale }) => {
    for (let n = 0; n < 6 * scale; n++) {
      const another = await system.another(n % 2 === 0 ? 'user-service' : 'orchestrator');
      another.start();
      await whenReady(another);
      await sleep(2_000);
      await endInOrder(another);
    }
  },
};

/** As a roll-out does it, ten times: one instance goes when its successor has come. */
export const replacedInTurn: Fault = {
  name: 'instances of every service replaced in turn by SIGTERM',
  killShare: 0,
  inject: async ({ system, scale }) => {
    const seconds = [await system.another('email-service'), await system.another('orchestrator')];
    for (const second of seconds) second.start();
    await Promise.all(seconds.map(whenReady));
    const instances = services.flatMap((service) => system.instancesOf(service));
    for (let n = 0; n < 10 * scale; n++) {
      const instance = instances[n % instances.length];
      if (!instance) break;
      await endInOrder(instance);
      instance.start();
      await whenReady(instance);
    }
    for (const second of seconds) await endInOrder(second);
  },
};

/** As after an outage of everything: the services are there first, and what they need comes one after the other. */
export const backendsComeLate: Fault = {
  name: 'RabbitMQ, Kafka and PostgreSQL come up after a service',
  killShare: 0,
  inject: async ({ system, scale }) => {
    const { rabbitMq, kafka, postgres } = system.backends;
    const servers = [rabbitMq, kafka, postgres].map(({ server }) => server);
    const early = await system.another('orchestrator');
    // As in every restart of RabbitMQ 3.10: the names of its queues have to be on disk.
    await sleep(2_000);
    await Promise.all(servers.map((server) => server.kill()));
    early.start();
    while ((await early.missing()).length < servers.length) await sleep(100);
    for (const server of servers) {
      await sleep(3_000 * scale);
      await server.start();
    }
    await whenReady(early);
    if (early.crashes > 0) throw new Error(`${early.name} did not wait but ended; read its log`);
    await endInOrder(early);
  },
};

/** @throws Error when it does not end by itself, with exit code 0 */
async function endInOrder(instance: ServiceProcess): Promise<void> {
  await instance.stop();
  const exit = instance.exits.at(-1);
  if (exit !== 0) throw new Error(`${instance.name} ended with ${exit} on SIGTERM; read its log`);
}
