import { Socket } from 'node:net';
import { coalesceWrites } from '../coalesce-writes.js';

/** For the `extra` of a data source: statements that are sent together share a round trip, and a system call on either side. */
export const pipelined = {
  pipeline: true,
  stream: (): Socket => {
    const socket = new Socket();
    // To connect resets how it writes.
    return socket.once('connect', () => coalesceWrites(socket));
  },
};
