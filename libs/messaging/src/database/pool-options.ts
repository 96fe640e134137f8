import { Socket } from 'node:net';
import type { ClientBase } from 'pg';
import { coalesceWrites } from '../coalesce-writes.js';

/**
 * For the `extra` of a data source. Statements that are sent together share a round trip, and a system call on either side.
 * What the server says to a connection that is just changing hands ends that connection, not the process: whoever gets it
 * learns so from its first statement.
 */
export const poolOptions = {
  pipeline: true,
  stream: (): Socket => {
    const socket = new Socket();
    // To connect resets how it writes.
    return socket.once('connect', () => coalesceWrites(socket));
  },
  // The pool listens while a connection rests and TypeORM while it has it, but nobody in between.
  onConnect: (client: ClientBase): void => void client.on('error', () => undefined),
};
