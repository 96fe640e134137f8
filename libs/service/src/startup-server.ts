import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { titleOf, type Problem } from './problem.js';
import type { Startup } from './startup.js';

/** As Fastify's own server: longer than load balancers keep a connection, or they would send requests into closed ones. */
const keepAliveTimeout = 72_000;

/** Where a service listens. */
export interface Addresses {
  readonly host: string;
  readonly port: number;
  readonly managementPort: number;
}

/**
 * The HTTP servers of a service, from its first moment: that of its product and that of its management. They say what the
 * service waits for, until the application takes their requests over. They stay the same, so nobody is refused a connection
 * in between.
 */
export class StartupServer {
  private answer: RequestListener = (request, response) => this.explain(request, response);
  private readonly fromManagement = new WeakSet<IncomingMessage>();
  readonly product = createServer({ keepAliveTimeout }, (request, response) => this.answer(request, response));
  readonly management = createServer({ keepAliveTimeout }, (request, response) => {
    this.fromManagement.add(request);
    this.answer(request, response);
  });

  private constructor(private readonly startup: Startup) {}

  static async listen(startup: Startup, { host, port, managementPort }: Addresses): Promise<StartupServer> {
    const server = new StartupServer(startup);
    try {
      await listening(server.product, port, host);
      await listening(server.management, managementPort, host);
      return server;
    } catch (error) {
      server.close();
      throw error;
    }
  }

  get port(): number {
    return portOf(this.product);
  }

  get managementPort(): number {
    return portOf(this.management);
  }

  readonly isManagement = (request: IncomingMessage): boolean => this.fromManagement.has(request);

  handOver(application: RequestListener): void {
    this.answer = application;
  }

  close(): void {
    for (const server of [this.product, this.management]) {
      server.close();
      server.closeAllConnections();
    }
  }

  private explain(request: IncomingMessage, response: ServerResponse): void {
    const path = this.isManagement(request) ? request.url?.split('?')[0] : undefined;
    switch (path) {
      case '/health/live':
        return send(response, 200, 'application/json', { status: 'ok', info: {}, error: {}, details: {} });
      case '/health/ready':
      case '/health/progress':
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

const listening = (server: Server, port: number, host: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject).listen(port, host, () => resolve());
  });

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

function send(response: ServerResponse, status: number, type: string, body: object): void {
  response.writeHead(status, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store' });
  response.end(JSON.stringify(body));
}
