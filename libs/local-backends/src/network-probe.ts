import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

/** Whether a server on this port of the loopback speaks TLS. */
export function answersTls(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    // A server that asks for a certificate tells so in a handshake, which is all that is wanted here.
    const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false });
    const settle = (answered: boolean) => () => {
      socket.destroy();
      resolve(answered);
    };
    socket.once('secureConnect', settle(true));
    for (const event of ['error', 'close', 'timeout']) socket.once(event, settle(false));
    socket.setTimeout(2000);
  });
}

/** Whether a server on this port of the loopback says anything in reply to the first bytes of its protocol. */
export function answers(port: number, greeting: Buffer): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    const settle = (answered: boolean) => () => {
      socket.destroy();
      resolve(answered);
    };
    socket.once('connect', () => socket.write(greeting));
    socket.once('data', settle(true));
    for (const event of ['error', 'close', 'timeout']) socket.once(event, settle(false));
    socket.setTimeout(2000);
  });
}
