import { freePorts } from '@starter/local-backends';
import { eventually } from '@starter/testing';
import { once } from 'node:events';
import { createServer, connect, type Server, type Socket } from 'node:net';
import { reset, TcpProxy } from './tcp-proxy.js';

let echo: Server;
let proxy: TcpProxy;
const received: string[] = [];
const clients: Socket[] = [];
beforeEach(async () => {
  const [upstream = 0, port = 0] = await freePorts(2);
  received.length = 0;
  echo = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      received.push(bytes.toString());
      socket.write(bytes);
    });
  }).listen(upstream, '127.0.0.1');
  await once(echo, 'listening');
  proxy = await TcpProxy.listen(upstream, port);
});
afterEach(async () => {
  clients.splice(0).forEach((client) => client.destroy());
  await proxy.close();
  await new Promise((resolve) => echo.close(resolve));
});

interface Peer {
  readonly socket: Socket;
  readonly got: () => string;
  readonly ended: () => boolean;
}

async function client(): Promise<Peer> {
  const socket = connect(proxy.port, '127.0.0.1');
  clients.push(socket);
  let [got, ended] = ['', false];
  socket.on('data', (bytes) => (got += bytes.toString()));
  socket.on('error', () => undefined).on('close', () => (ended = true));
  await once(socket, 'connect');
  return { socket, got: () => got, ended: () => ended };
}

it('passes everything in fair weather, and slowly in slow', async () => {
  const { socket, got } = await client();
  socket.write('hello');
  await eventually(() => expect(got()).toBe('hello'));
  proxy.set({ kind: 'slow', ms: 1, bytes: 2 });
  socket.write('world');
  await eventually(() => expect(got()).toBe('helloworld'));
});

it('passes nothing half-open, tells nobody, and resets what lost bytes when it is fair again', async () => {
  const { socket, got, ended } = await client();
  socket.write('one');
  await eventually(() => expect(got()).toBe('one'));
  proxy.set({ kind: 'half-open' });
  socket.write('two');
  // Another one behind it, through a proxy that works, shows that the bytes have had their time.
  await client();
  expect([received.join(''), ended()]).toEqual(['one', false]);
  proxy.clear();
  await eventually(() => expect(ended()).toBe(true));
  expect(received.join('')).toBe('one');
});

it('swallows what clients send while it is silent, and resets nothing afterwards', async () => {
  const { socket, got, ended } = await client();
  proxy.set({ kind: 'silent' });
  const other = await client();
  for (const { socket: silenced } of [{ socket }, other]) silenced.write('lost');
  // A third one behind them, through a proxy that works, shows that the bytes have had their time.
  await client();
  proxy.clear();
  socket.write('found');
  await eventually(() => expect(got()).toBe('found'));
  expect([received.join(''), ended(), other.ended()]).toEqual(['found', false, false]);
});

it('loses the connections that there are for ever and tells nobody, while new ones work', async () => {
  const { socket, got, ended } = await client();
  socket.write('one');
  await eventually(() => expect(got()).toBe('one'));
  proxy.loseAll();
  socket.write('two');
  const other = await client();
  other.socket.write('three');
  await eventually(() => expect(other.got()).toBe('three'));
  proxy.clear();
  expect([received.join(' '), got(), ended()]).toEqual(['one three', 'one', false]);
});

it('cuts in the middle of what is sent', async () => {
  const { socket, ended } = await client();
  proxy.set({ kind: 'reset-mid-frame' });
  socket.write('12345678');
  await eventually(() => expect(ended()).toBe(true));
  expect(['', '1234']).toContain(received.join(''));
  expect(proxy.cut).toBe(1);
});

it('loses the answer to what it is told to', async () => {
  const { socket, got, ended } = await client();
  proxy.set({ kind: 'lost-answer', text: 'COMMIT' });
  socket.write('SELECT');
  await eventually(() => expect(got()).toBe('SELECT'));
  socket.write('COMMIT');
  await eventually(() => expect(ended()).toBe(true));
  expect([received.join(' '), got()]).toEqual(['SELECT COMMIT', 'SELECT']);
});

it('resets a connection whose end is under way, too', async () => {
  const { socket, ended } = await client();
  socket.write('hello');
  socket.end();
  reset(socket);
  await eventually(() => expect(ended()).toBe(true));
});
