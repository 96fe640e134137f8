import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { BaseSettings } from './configuration.js';
import { titleOf, type Problem } from './problem.js';
import type { Startup } from './startup.js';

/** As Fastify's own server: longer than load balancers keep a connection, or they would send requests into closed ones. */
const keepAliveTimeout = 72_000;

/**
 * The HTTP server of a service, from its first moment: it says what the service waits for, until the application takes its
 * requests over. It is one server, so nobody is refused a connection in between.
 */
export class StartupServer {
  readonly http: Server;
  private answer: RequestListener = (request, response) => this.explain(request, response);

  private constructor(private readonly startup: Startup) {
    this.http = createServer({ keepAliveTimeout }, (request, response) => this.answer(request, response));
  }

  static async listen(startup: Startup, { HOST, PORT }: Pick<BaseSettings, 'HOST' | 'PORT'>): Promise<StartupServer> {
    const server = new StartupServer(startup);
    await new Promise<void>((resolve, reject) => {
      server.http.once('error', reject).listen(PORT, HOST, () => resolve());
    });
    return server;
  }

  get port(): number {
    return (this.http.address() as AddressInfo).port;
  }

  handOver(application: RequestListener): void {
    this.answer = application;
  }

  close(): void {
    this.http.close();
    this.http.closeAllConnections();
  }

  private explain({ url = '' }: IncomingMessage, response: ServerResponse): void {
    switch (url.split('?')[0]) {
      case '/health/live':
        return send(response, 200, 'application/json', { status: 'ok', info: {}, error: {}, details: {} });
      case '/health/ready':
      case '/health/startup':
        return send(response, 503, 'application/json', this.health());
      default:
        response.setHeader('retry-after', '5');
        return send(response, 503, 'application/problem+json', this.problem());
    }
  }

  /** In the form of `@nestjs/terminus`, as the probes of the application answer later. */
  private health() {
    const { missing, present } = this.startup;
    const info = Object.fromEntries(present.map((part) => [part, { status: 'up' }]));
    const attaching = { startup: { status: 'down', message: 'it attaches to its brokers: wait' } };
    const error =
      missing.size > 0
        ? Object.fromEntries([...missing].map(([part, why]) => [part, { status: 'down', ...why }]))
        : attaching;
    return { status: 'error', info, error, details: { ...info, ...error } };
  }

  private problem(): Problem {
    const missing = [...this.startup.missing.keys()].join(', ');
    const detail = `The service is starting${missing && ` and waits for ${missing}`}; send the request again later.`;
    return { type: 'about:blank', title: titleOf(503), status: 503, detail };
  }
}

function send(response: ServerResponse, status: number, type: string, body: object): void {
  response.writeHead(status, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store' });
  response.end(JSON.stringify(body));
}
