import { silentLogger } from '@starter/messaging';
import { StartupServer } from './startup-server.js';
import { Startup } from './startup.js';

let server: StartupServer;
beforeEach(async () => {
  server = await StartupServer.listen(new Startup(silentLogger), { host: '127.0.0.1', port: 0, managementPort: 0 });
});
afterEach(() => server.close());

it.each([
  ['the management', '/health/live?verbose', 200],
  ['the management', '/health/startup', 503],
  ['the management', '/metrics', 503],
  ['the product', '/health/live', 503],
  ['the product', '/users', 503],
  // No address to parse.
  ['the product', '//', 503],
  ['the management', '/%', 503],
])('answers at the port of %s %s with %i while it starts', async (which, path, status) => {
  const port = which === 'the product' ? server.port : server.managementPort;
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  expect({ status: response.status, answer: await response.json() }).toMatchObject({ status, answer: {} });
});
