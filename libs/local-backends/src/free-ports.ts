import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

// Below the ranges that systems use for outgoing connections: a client that reconnects to a killed server must not be
// handed the server's own port as its local one (TCP would connect the socket to itself and block the restart).
const lowest = 15_000;
const highest = 32_000;

/** `count` different ports on which nobody listens on the loopback at the moment. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  for (let attempts = 0; ports.size < count; attempts++) {
    if (attempts > 1000)
      throw new Error(`No free TCP port between ${lowest} and ${highest} on 127.0.0.1: end some servers`);
    const port = randomInt(lowest, highest);
    if (await isFree(port)) ports.add(port);
  }
  return [...ports];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)));
  });
}
