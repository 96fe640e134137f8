import { connect } from 'node:net';

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
