import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { ISocketFactory } from 'kafkajs';

/**
 * The sockets of one kafkajs client. Says truthfully whether it is connected, which kafkajs does not, and can cut the
 * client off for good: kafkajs has no other way to end a client that hangs in a request or a retry.
 */
export class SocketGate {
  private readonly sockets = new Set<Socket>();
  private isCut = false;

  /** `onDisconnected` is called when the last socket has closed, unless by {@link cut}. */
  constructor(private readonly onDisconnected: () => void = () => undefined) {}

  get connected(): boolean {
    for (const socket of this.sockets) if (socket.readyState === 'open') return true;
    return false;
  }

  get cutOff(): boolean {
    return this.isCut;
  }

  readonly open: ISocketFactory = ({ host, port, ssl, onConnect }) => {
    if (this.isCut) throw new Error('this client has been discarded');
    const socket = ssl
      ? connectTls({ host, port, ...(isIP(host) ? {} : { servername: host }), ...ssl }, onConnect)
      : connect({ host, port }, onConnect);
    socket.setKeepAlive(true, 60_000);
    // kafkajs writes whole requests: waiting to fill packets would only delay them.
    socket.setNoDelay(true);
    this.sockets.add(socket);
    socket.once('close', () => {
      this.sockets.delete(socket);
      if (!this.isCut && !this.connected) this.onDisconnected();
    });
    return socket;
  };

  cut(): void {
    this.isCut = true;
    // With an error, because kafkajs does not listen for a mere close: requests in flight would hang until they time out.
    for (const socket of this.sockets) socket.destroy(new Error('this client has been discarded'));
  }
}
