import { Socket } from 'node:net';

/** The sockets of a simulated process, to be cut all at once; none can be opened afterwards. */
export class Sockets {
  private readonly opened = new Set<Socket>();
  private isCut = false;

  open(): Socket {
    const socket = new Socket();
    if (this.isCut) refuse(socket);
    this.opened.add(socket);
    socket.once('close', () => this.opened.delete(socket));
    return socket;
  }

  cut(): void {
    this.isCut = true;
    for (const socket of this.opened) socket.destroy();
  }
}

function refuse(socket: Socket): void {
  socket.connect = () => {
    process.nextTick(() => socket.destroy(Object.assign(new Error('the process is over'), { code: 'ECONNREFUSED' })));
    return socket;
  };
}
