import { once } from 'node:events';
import { createRequire } from 'node:module';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { eventually } from '@starter/testing';
import './fresh-connection.js';

interface Answer {
  readonly correlationId: number;
  readonly payload: Buffer;
}
interface Connection {
  requestQueue: { fulfillRequest: (answer: Answer) => void };
  readonly bytesBuffered: number;
  isConnected(): boolean;
  connect(): Promise<unknown>;
  disconnect(): Promise<unknown>;
}

const require = createRequire(import.meta.url);
const Connection = require('kafkajs/src/network/connection.js') as new (options: object) => Connection;
const silent = { namespace: () => silent, debug() {}, info() {}, warn() {}, error() {} };

let server: Server;
let connection: Connection;
const sockets: Socket[] = [];
afterEach(async () => {
  await connection?.disconnect();
  sockets.forEach((socket) => socket.destroy());
  server?.close();
});

it('reads what comes after a reconnect without the half answer of before', async () => {
  server = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  connection = new Connection({
    ...{ host: '127.0.0.1', port, logger: silent, requestTimeout: 5_000, connectionTimeout: 5_000 },
    socketFactory: ({ onConnect }: { onConnect: () => void }) => connect(port, '127.0.0.1', onConnect),
  });
  const answers: Answer[] = [];
  connection.requestQueue.fulfillRequest = (answer) => answers.push(answer);
  const answer = Buffer.concat([Buffer.from([0, 0, 0, 8, 0, 0, 0, 7]), Buffer.from('text')]);

  await connection.connect();
  await eventually(() => expect(sockets).toHaveLength(1));
  sockets[0]?.write(answer.subarray(0, 6));
  await eventually(() => expect(connection.bytesBuffered).toBe(6));
  sockets[0]?.resetAndDestroy();
  await eventually(() => expect(connection.isConnected()).toBe(false));

  await connection.connect();
  await eventually(() => expect(sockets).toHaveLength(2));
  sockets[1]?.write(answer);
  await eventually(() => expect(answers).toEqual([{ size: 8, correlationId: 7, payload: Buffer.from('text') }]));
});
