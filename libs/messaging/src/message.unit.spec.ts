import { causedBy, createMessage } from './message.js';

it('starts a correlation of its own, and hands it on', () => {
  const first = createMessage({ type: 'a', version: 1, source: 's', data: {} });
  expect(first.correlationId).toBe(first.id);
  const second = createMessage({ type: 'b', version: 1, source: 's', data: {}, ...causedBy(first) });
  expect(second).toMatchObject({ correlationId: first.id, causationId: first.id });
  expect(second.id).not.toBe(first.id);
});
