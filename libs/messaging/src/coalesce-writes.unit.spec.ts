import { once } from 'node:events';
import { createServer, Socket, type AddressInfo } from 'node:net';
import { coalesceWrites } from './coalesce-writes.js';
import { openSocket } from './database/database-options.js';

describe('coalesceWrites', () => {
  it('hands over in one piece what is written in one turn of the event loop, in its order', async () => {
    const { socket, writes, received, close } = await connected(coalesceWrites);
    for (const text of ['a', 'b', 'c']) socket.write(text);
    // Continuations belong to the same turn.
    await Promise.resolve().then(() => socket.write('d'));
    await received('abcd');
    socket.write('e');
    await received('abcde');
    expect(writes).toEqual([4, 1]);
    close();
  });

  it('ends with everything that was written before', async () => {
    const { socket, received, close } = await connected(coalesceWrites);
    socket.write('a');
    socket.end('b');
    await received('ab');
    close();
  });
});

it('coalesces what goes to PostgreSQL, although a socket that connects forgets how it was to write', async () => {
  const socket = openSocket();
  const { writes, received, close } = await connected((given) => given, socket);
  socket.write('a');
  socket.write('b');
  await received('ab');
  expect(writes).toEqual([2]);
  close();
});

/** A socket over loopback, the number of chunks in each hand-over to the system, and what has arrived. */
async function connected(prepare: (socket: Socket) => Socket, socket = new Socket()) {
  let text = '';
  const peers: Socket[] = [];
  const server = createServer((peer) => {
    peers.push(peer);
    peer.on('data', (chunk) => {
      text += String(chunk);
      peer.emit('text');
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  socket.connect((server.address() as AddressInfo).port, '127.0.0.1');
  await Promise.all([once(socket, 'connect'), accepted]);
  const writes: number[] = [];
  const { _write: one, _writev: many } = socket;
  if (!many) throw new Error('a socket of Node writes several chunks at once');
  socket._write = (...args) => {
    writes.push(1);
    one.apply(socket, args);
  };
  socket._writev = (chunks, callback) => {
    writes.push(chunks.length);
    many.call(socket, chunks, callback);
  };
  return {
    socket: prepare(socket),
    writes,
    received: async (expected: string) => {
      while (text !== expected) await once(peers[0] ?? server, 'text');
    },
    close: () => {
      socket.destroy();
      server.close();
    },
  };
}
