import { eventually, openTestDataSource, uniqueName, type TestDataSource } from '@starter/testing';
import kafkajs from 'kafkajs';
import { z } from 'zod';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { connectKafka } from '../kafka/kafka-event-transport.js';
import { silentLogger } from '../logger.js';
import { MemoryCommandTransport } from '../memory/memory-command-transport.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { createMessage } from '../message.js';
import { Messaging } from '../messaging.js';
import type { EventTransport } from '../transport/event-transport.js';

const brokers = process.env['KAFKA_BROKERS']?.split(',');
const transports: [string, () => Promise<EventTransport>][] = [
  ['memory', () => Promise.resolve(new MemoryEventTransport())],
];
if (brokers) transports.push(['kafka', () => connectKafka({ brokers, clientId: 'spec' })]);

/** A table that refuses rows, for a reason that has nothing to do with an outage. */
const refusing = (table: string, event: 'INSERT' | 'UPDATE', condition: string) => `
  CREATE OR REPLACE FUNCTION refuse_${table}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF ${condition} THEN RAISE EXCEPTION 'the spec refuses it'; END IF; RETURN NEW; END $$;
  CREATE TRIGGER refuse BEFORE ${event} ON ${table} FOR EACH ROW EXECUTE FUNCTION refuse_${table}()`;

describe.each(transports)('what cannot be recorded, from %s', (_, open) => {
  let database: TestDataSource;
  let transport: EventTransport;
  let messaging: Messaging;
  let [topic, reactor, ordered] = ['', '', ''];
  let reacted: number[];
  let inOrder: number[];

  beforeEach(async () => {
    database = await openTestDataSource([CreateMessagingTables1760000000001]);
    transport = await open();
    [reacted, inOrder] = [[], []];
    const service = uniqueName('spec');
    [topic, reactor, ordered] = [`${service}.events`, `${service}.reactor`, `${service}.ordered`];
    messaging = new Messaging({
      ...{ service, dataSource: database.dataSource, logger: silentLogger, partitions: 1, stalledMs: 1_000 },
      ...{ commands: new MemoryCommandTransport(), events: transport },
      failurePolicy: { maxRetries: 1, backoff: { baseMs: 10, maxMs: 10 } },
    });
    const schema = z.object({ n: z.int() });
    const definition = { kind: 'event', type: 'spec.happened', version: 1, owner: 'spec', schema } as const;
    messaging.reactTo(topic, reactor).on(definition, async ({ data }) => void reacted.push(data.n));
    messaging.inSequence(topic, ordered).on(definition, async (events) => {
      for (const { data } of events) if (data.n < 0) throw new Error('it fails');
      inOrder.push(...events.map(({ data }) => data.n));
    });
    await messaging.onApplicationBootstrap();
  });
  afterEach(async () => {
    await messaging.beforeApplicationShutdown();
    await transport.close();
    await database.close();
    if (!transport.constructor.name.startsWith('Kafka') || !brokers) return;
    const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    await admin.deleteTopics({ topics: [topic] });
    await admin.disconnect();
  });

  const query = (text: string) => database.dataSource.query<Record<string, unknown>[]>(text);
  const event = (key: string, n: unknown, sequence = 1) =>
    createMessage({ type: 'spec.happened', version: 1, source: 'spec', subject: key, sequence, data: { n } });
  const letters = (consumer: string) => query(`SELECT * FROM dead_letter WHERE consumer = '${consumer}'`);
  const places = () => messaging.problems().map(({ part }) => part);
  const none = () => eventually(() => expect(messaging.problems()).toEqual([]));

  it('as discarded is a dead letter, and the others go on', async () => {
    await query(refusing('inbox_discarded', 'INSERT', 'true'));
    await transport.publish(topic, [event('a', 'none'), event('b', 1), event('a', 2, 2), event('c', 3)]);
    await eventually(() => expect([...reacted].sort()).toEqual([1, 2, 3]));
    await eventually(() => expect([...inOrder].sort()).toEqual([1, 3]));
    for (const consumer of [reactor, ordered]) {
      await eventually(async () =>
        expect(await letters(consumer)).toMatchObject([
          { error_type: 'Unrecordable', reason: expect.stringMatching(/spec refuses it.*because of.*n: /) as string },
        ]),
      );
    }
    await none();
  });

  it('as a dead letter of its own is one of its bytes, and the others go on', async () => {
    await query(refusing('inbox_discarded', 'INSERT', 'true'));
    await query(refusing('dead_letter', 'INSERT', 'NEW.message IS NOT NULL'));
    await transport.publish(topic, [event('a', 'none'), event('b', 1)]);
    await eventually(() => expect([reacted, inOrder]).toEqual([[1], [1]]));
    for (const consumer of [reactor, ordered]) {
      await eventually(async () =>
        expect(await letters(consumer)).toMatchObject([
          { message: null, redrivable: false, raw: Buffer.from('{"n":"none"}') },
        ]),
      );
    }
    await none();
  });

  it('not even as bytes is named with its place until it is, and the others go on', async () => {
    await query(refusing('inbox_discarded', 'INSERT', 'true'));
    await query(refusing('dead_letter', 'INSERT', 'true'));
    await transport.publish(topic, [event('b', 1), event('a', 'none'), event('c', 2)]);
    await eventually(() =>
      expect([[...reacted].sort(), [...inOrder].sort()]).toEqual([
        [1, 2],
        [1, 2],
      ]),
    );
    const place = `${topic}[0]@1`;
    await eventually(() => expect(places().filter((part) => part.startsWith(place)).length).toBeGreaterThanOrEqual(4));
    expect(
      messaging
        .problems()
        .map(({ problem }) => problem)
        .join(),
    ).toContain('its dead letter cannot be stored');
    await query('DROP TRIGGER refuse ON dead_letter');
    for (const consumer of [reactor, ordered])
      await eventually(async () => expect(await letters(consumer)).toHaveLength(1));
    await none();
  });

  it('where it is parked is named with its key until it is, and the others go on', async () => {
    await query(refusing('inbox_parked', 'UPDATE', 'NEW.failure IS NOT NULL'));
    // It waits for its predecessor, is parked, and fails afterwards.
    await transport.publish(topic, [event('a', -2, 2), event('b', 1)]);
    await eventually(() => expect(inOrder).toEqual([1]));
    await transport.publish(topic, [event('a', 2), event('b', 3, 2)]);
    await eventually(() => expect([...inOrder].sort()).toEqual([1, 2, 3]));
    await eventually(() => expect(places()).toEqual([`${ordered}, event 2 of a`]));
    await query('DROP TRIGGER refuse ON inbox_parked');
    await none();
    expect(await query('SELECT key, sequence, failure IS NOT NULL AS held FROM inbox_parked')).toEqual([
      { key: 'a', sequence: '2', held: true },
    ]);
  });
});
