import { createServer, Socket, type Server } from 'node:net';

/** What becomes of the bytes that pass. */
export type Weather =
  | { readonly kind: 'fair' }
  /** Nothing passes and nobody is told: as when a cable is pulled. */
  | { readonly kind: 'half-open' }
  /** Connections are taken, and what clients send is swallowed: as a server that is there and answers nothing. */
  | { readonly kind: 'silent' }
  /** The next bytes are cut in the middle, and the connection is reset. */
  | { readonly kind: 'reset-mid-frame' }
  /** Every piece of at most `bytes` waits so long. */
  | { readonly kind: 'slow'; readonly ms: number; readonly bytes: number }
  /** What the client sends passes; when it holds `text`, the connection is reset before the answer comes back. */
  | { readonly kind: 'lost-answer'; readonly text: string };

const fair: Weather = { kind: 'fair' };

interface Link {
  readonly client: Socket;
  readonly upstream: Socket;
  /** Nothing passes any more, whatever the weather, and neither end hears of the other's. */
  lost: boolean;
  /** Its answer is lost. */
  doomed: boolean;
}

/** Stands between clients and one server on the loopback. */
export class TcpProxy {
  private readonly server: Server;
  private readonly links = new Set<Link>();
  private weather: Weather = fair;
  /** Connections that were cut. */
  cut = 0;

  private constructor(
    private readonly upstreamPort: number,
    readonly port: number,
  ) {
    this.server = createServer((client) => this.accept(client));
  }

  static async listen(upstreamPort: number, port: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(upstreamPort, port);
    await new Promise<void>((resolve, reject) => {
      proxy.server.once('error', reject).listen(port, '127.0.0.1', resolve);
    });
    return proxy;
  }

  /** Holds for the connections there are and for new ones, until it is changed. Bytes that were held are gone with their connections. */
  set(weather: Weather): void {
    const wasHalfOpen = this.weather.kind === 'half-open';
    this.weather = weather;
    // Bytes are missing in those streams: nothing sensible can follow on them.
    if (wasHalfOpen && weather.kind !== 'half-open') this.resetAll();
  }

  clear(): void {
    this.set(fair);
  }

  /** The connections that there are pass nothing any more, for ever: as behind a host that has vanished. New ones are as ever. */
  loseAll(): void {
    for (const link of this.links) link.lost = true;
  }

  resetAll(): void {
    for (const link of this.links) this.reset(link);
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.resetAll();
    await closed;
  }

  private accept(client: Socket): void {
    const upstream = new Socket();
    const link: Link = { client, upstream, lost: false, doomed: false };
    this.links.add(link);
    for (const socket of [client, upstream]) {
      socket.setNoDelay(true);
      // Whichever end goes, the other one hears of it, except in a half-open link.
      socket.on('error', () => this.end(link));
      socket.on('close', () => this.end(link));
    }
    client.on('data', (bytes) => this.pass(link, bytes, upstream));
    upstream.on('data', (bytes) => this.pass(link, bytes, client));
    upstream.connect(this.upstreamPort, '127.0.0.1');
  }

  private pass(link: Link, bytes: Buffer, to: Socket): void {
    if (link.lost) return;
    const { weather } = this;
    switch (weather.kind) {
      case 'fair':
        to.write(bytes);
        break;
      case 'half-open':
        break;
      case 'silent':
        if (to === link.client) to.write(bytes);
        break;
      case 'reset-mid-frame':
        to.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => this.reset(link));
        break;
      case 'slow':
        this.dribble(link, bytes, to, weather);
        break;
      case 'lost-answer':
        if (to === link.client && link.doomed) return this.reset(link);
        if (to === link.upstream && bytes.includes(weather.text)) link.doomed = true;
        to.write(bytes);
        break;
    }
  }

  private dribble(
    link: Link,
    bytes: Buffer,
    to: Socket,
    { ms, bytes: size }: Extract<Weather, { kind: 'slow' }>,
  ): void {
    const from = to === link.client ? link.upstream : link.client;
    from.pause();
    let offset = 0;
    const next = (): void => {
      if (to.destroyed || from.destroyed) return;
      to.write(bytes.subarray(offset, (offset += size)));
      if (offset < bytes.length) setTimeout(next, ms);
      else from.resume();
    };
    setTimeout(next, ms);
  }

  private reset(link: Link): void {
    if (!this.links.delete(link)) return;
    this.cut += 1;
    reset(link.client);
    reset(link.upstream);
  }

  private end(link: Link): void {
    if (link.lost || this.weather.kind === 'half-open' || !this.links.delete(link)) return;
    link.client.destroy();
    link.upstream.destroy();
  }
}

/** Node.js never closes the handle of a connection that is reset while its end is under way, and then cannot exit either. */
export function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
