import { MessageTooLargeError, NotConfirmedError, publishResults } from '../errors.js';
import { createMessage, type Message } from '../message.js';
import { MemoryCommandBroker } from './memory-command-broker.js';
import { MemoryCommandTransport } from './memory-command-transport.js';
import { MemoryEventLog } from './memory-event-log.js';
import { MemoryEventTransport } from './memory-event-transport.js';

const message = (type: string, subject = 'a'): Message =>
  createMessage({ type, version: 1, source: 'spec', subject, data: 1 });

describe('the switches of the memory transports', () => {
  it('a silent queue confirms nothing, costs the others nothing, and takes what waits when it is restored', async () => {
    const broker = new MemoryCommandBroker();
    const impatient = new MemoryCommandTransport(broker, { sendTimeoutMs: 20 });
    const patient = new MemoryCommandTransport(broker);
    await patient.declare({ queues: [{ name: 'dead' }, { name: 'healthy' }] });
    broker.silent.silence('dead');
    const to = (routingKey: string) => ({ exchange: '', routingKey });
    const waiting = patient.send(message('t'), to('dead'));
    await expect(impatient.send(message('t'), to('dead'))).rejects.toThrow(NotConfirmedError);
    await impatient.send(message('t'), to('healthy'));
    expect(broker.messages('dead')).toHaveLength(0);
    broker.silent.restore('dead');
    await waiting;
    expect(broker.messages('dead')).toHaveLength(1);
  });

  it('a queue refuses what it is told to', async () => {
    const broker = new MemoryCommandBroker();
    const transport = new MemoryCommandTransport(broker);
    await transport.declare({ queues: [{ name: 'q' }] });
    broker.refuse('q', ({ properties }) =>
      properties.type === 'bad' ? new MessageTooLargeError('too large: make it smaller') : undefined,
    );
    await expect(transport.send(message('bad'), { exchange: '', routingKey: 'q' })).rejects.toThrow(/too large/);
    await transport.send(message('good'), { exchange: '', routingKey: 'q' });
    expect(broker.messages('q')).toHaveLength(1);
  });

  it('a topic is silent, or refuses single messages and what follows them in their keys', async () => {
    const log = new MemoryEventLog();
    const transport = new MemoryEventTransport(log, { publishTimeoutMs: 20 });
    await transport.declare([
      { name: 'dead', partitions: 1 },
      { name: 'healthy', partitions: 1 },
    ]);
    log.silent.silence('dead');
    log.refuse('healthy', ({ type }) => (type === 'bad' ? new MessageTooLargeError('too large') : undefined));
    await expect(transport.publish('dead', [message('t')])).rejects.toThrow(NotConfirmedError);
    const messages = [message('bad', 'a'), message('good', 'a'), message('good', 'b')];
    const error: unknown = await transport.publish('healthy', messages).catch((reason: unknown) => reason);
    const names = publishResults(error, 3).map((result) => (result instanceof Error ? result.name : 'stored'));
    expect(names).toEqual(['MessageTooLargeError', 'NotConfirmedError', 'stored']);
  });
});
