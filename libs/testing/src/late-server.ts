import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** An address of the loopback at which a real server can be reached only once it has come up. */
export class LateServer {
  private readonly sockets = new Set<Socket>();
  private listener: Server | undefined;

  private constructor(
    private readonly upstream: { readonly host: string; readonly port: number },
    readonly port: number,
  ) {}

  /** `host:port` of the server. */
  static async before(server: string): Promise<LateServer> {
    const { hostname: host, port } = new URL(`tcp://${server}`);
    const probe = await listening(createServer(), 0);
    const { port: own } = probe.address() as AddressInfo;
    await closed(probe);
    return new LateServer({ host, port: Number(port) }, own);
  }

  get host(): string {
    return `127.0.0.1:${this.port}`;
  }

  async comeUp(): Promise<void> {
    this.listener = await listening(
      createServer((client) => {
        const upstream = connect(this.upstream);
        client.pipe(upstream).pipe(client);
        for (const socket of [client, upstream]) {
          this.sockets.add(socket);
          socket.on('error', () => undefined).once('close', () => this.sockets.delete(socket));
        }
      }),
      this.port,
    );
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    if (this.listener) await closed(this.listener);
  }
}

const listening = (server: Server, port: number): Promise<Server> =>
  new Promise((resolve, reject) => {
    server.once('error', reject).listen(port, '127.0.0.1', () => resolve(server));
  });

const closed = (server: Server): Promise<unknown> => new Promise((resolve) => server.close(resolve));
