import type { Duplex } from 'node:stream';

/**
 * What is written to the socket in one turn of the event loop leaves in one system call. The clients of the backends write each
 * frame by itself, and a call costs both sides as much as a small message does.
 */
export function coalesceWrites<T extends Duplex>(socket: T): T {
  const write = socket.write.bind(socket);
  let corked = false;
  const coalesced = (...args: Parameters<typeof write>): boolean => {
    if (!corked) {
      corked = true;
      socket.cork();
      process.nextTick(() => {
        corked = false;
        socket.uncork();
      });
    }
    return write(...args);
  };
  return Object.assign(socket, { write: coalesced });
}
