import { setTimeout as sleep } from 'node:timers/promises';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { Messaging } from '@starter/messaging';
import type { StartupServer } from './startup-server.js';
import { Waits } from './waits.js';

export interface ShutDownOptions {
  /** Between "not ready" and the first refused request, in milliseconds. */
  readonly delayMs: number;
  /** How long what is in hand may take, in milliseconds. */
  readonly drainMs: number;
}

/**
 * Takes nothing new, finishes what is in hand, and only then closes what that needs. Each step is logged before it begins, so
 * that the last line tells where a shutdown hangs.
 */
export async function shutDown(
  app: NestFastifyApplication,
  servers: StartupServer,
  { delayMs, drainMs }: ShutDownOptions,
): Promise<void> {
  const messaging = app.get(Messaging);
  const { logger } = messaging;
  logger.info('stopping: not ready any more', { delayMs });
  messaging.retire();
  app.get(Waits).stop();
  await sleep(delayMs);
  logger.info('stopping: takes nothing new, finishes what is in hand', { drainMs, ...messaging.inHand });
  // Requests only write to the outbox, so they and the consumers need not wait for each other.
  await Promise.all([closeHttp(app, servers, drainMs), messaging.beforeApplicationShutdown()]);
  logger.info('stopping: closes the database');
  await app.close();
  logger.info('stopped');
}

/** Requests in hand are answered, at most for `drainMs` milliseconds; later ones are refused. */
async function closeHttp(
  app: NestFastifyApplication,
  { product, management }: StartupServer,
  drainMs: number,
): Promise<void> {
  const servers = [product, management];
  // Connections that are kept alive after their last answer would keep the server open for more than a minute.
  const idle = setInterval(() => servers.forEach((server) => server.closeIdleConnections()), 50);
  const deadline = setTimeout(() => servers.forEach((server) => server.closeAllConnections()), drainMs);
  // Fastify refuses requests on the connections that there are; the servers, which are ours, refuse new connections.
  const closed = servers.map((server) => new Promise((resolve) => server.close(resolve)));
  await Promise.all([app.getHttpAdapter().close(), ...closed]);
  clearInterval(idle);
  clearTimeout(deadline);
}
