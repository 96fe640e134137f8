import { fastify } from 'fastify';
import { refuseWhileOutboxIsHigh } from './outbox-edge.js';

it('refuses what would write while the outbox is high, and answers questions', async () => {
  const backlog = { high: true };
  const http = fastify();
  refuseWhileOutboxIsHigh(http, backlog);
  let worked = 0;
  http.all('/users', () => ({ worked: (worked += 1) }));
  const url = `${await http.listen({ port: 0, host: '127.0.0.1' })}/users`;
  try {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'] as const) {
      const answer = await fetch(url, { method, body: '{' });
      expect(answer.status).toBe(503);
      expect(answer.headers.get('retry-after')).toBe('5');
      expect(answer.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
      expect(await answer.json()).toMatchObject({ status: 503, title: 'Service Unavailable' });
    }
    expect(worked).toBe(0);
    expect((await fetch(url)).status).toBe(200);
    backlog.high = false;
    expect((await fetch(url, { method: 'POST' })).status).toBe(200);
  } finally {
    await http.close();
  }
});
