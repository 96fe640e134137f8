import { silentLogger } from '@starter/messaging';
import { StartupServer } from './startup-server.js';
import { Startup } from './startup.js';

it.each([
  ['/health/live?verbose', 200],
  ['/health/startup', 503],
  ['/users', 503],
  // No address to parse.
  ['//', 503],
  ['/%', 503],
])('answers %s with %i while it starts', async (path, status) => {
  const server = await StartupServer.listen(new Startup(silentLogger), { HOST: '127.0.0.1', PORT: 0 });
  const response = await fetch(`http://127.0.0.1:${server.port}${path}`);
  expect({ status: response.status, answer: await response.json() }).toMatchObject({ status, answer: {} });
  server.close();
});
