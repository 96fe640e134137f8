import type { OutboxMetrics } from '../outbox/outbox-relay.js';
import type { Effect } from '../outcome.js';
import type { Backlog } from './backlog-sampler.js';
import type { ConsumerMonitor, TypeMonitor } from './consumer-monitor.js';
import type { QueueMonitor } from './queue-monitor.js';

export interface MetricSample {
  /** The family's name, or for a histogram that with `_bucket`, `_sum` or `_count`. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A metric as Prometheus knows it. */
export interface MetricFamily {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: readonly MetricSample[];
}

const outcomes: Readonly<Record<Effect, string>> = {
  handled: 'handled',
  duplicates: 'duplicate',
  parked: 'parked',
  retried: 'retried',
  discarded: 'discarded',
  deadLettered: 'dead_lettered',
};

/** Everything that is known of a service's messages, at this moment. `docs/metrics.md` lists it. */
export function metricFamilies(
  monitor: QueueMonitor,
  { parked, deadLetters, waiting }: Backlog,
  outbox: OutboxMetrics,
  problems: number,
): MetricFamily[] {
  const consumers = [...monitor.byConsumer];
  const types = consumers.flatMap(([consumer, { types }]) =>
    [...types].map(([type, one]) => ({ labels: { consumer, type }, ...one })),
  );
  const perConsumer = (read: (one: ConsumerMonitor) => number): [Labels, number][] =>
    consumers.map(([consumer, one]) => [{ consumer }, read(one)]);
  const perName = (counts: ReadonlyMap<string, number>): [Labels, number][] =>
    consumers.map(([consumer]) => [{ consumer }, counts.get(consumer) ?? 0]);
  return [
    family(
      'messaging_messages_published_total',
      'counter',
      'Messages that a broker has confirmed.',
      monitor.publications.map(({ channel, type, count }) => [{ channel, type }, count]),
    ),
    family(
      'messaging_publish_failures_total',
      'counter',
      'Requests to a broker that failed; what was in them is sent again.',
      Object.entries(monitor.publishFailures).map(([channel, count]) => [{ channel }, count]),
    ),
    family(
      'messaging_messages_consumed_total',
      'counter',
      'Deliveries by what became of them.',
      types.flatMap(({ labels, counts }) =>
        (Object.entries(outcomes) as [Effect, string][]).map(([effect, outcome]): [Labels, number] => [
          { ...labels, outcome },
          counts[effect],
        ]),
      ),
    ),
    {
      name: 'messaging_processing_seconds',
      type: 'histogram',
      help: 'Time from a delivery to its outcome, in seconds.',
      samples: types.flatMap(({ labels, processing }) => histogram('messaging_processing_seconds', labels, processing)),
    },
    family(
      'messaging_deliveries_in_flight',
      'gauge',
      'Deliveries that have no outcome yet.',
      perConsumer(({ inFlight }) => inFlight),
    ),
    family(
      'messaging_in_flight_limit',
      'gauge',
      'How many deliveries may be in flight now, by the load.',
      perConsumer(({ consumers: all }) => all.reduce((sum, { flow }) => sum + flow.limit, 0)),
    ),
    family(
      'messaging_in_flight_bytes',
      'gauge',
      'Bytes of the messages in flight.',
      perConsumer(({ consumers: all }) => all.reduce((sum, { flow }) => sum + flow.bytes, 0)),
    ),
    family(
      'messaging_consumer_attached',
      'gauge',
      '1 while the consumer is attached to its broker, else 0.',
      perConsumer(({ consumers: all }) => Number(all.length > 0 && all.every(({ attached }) => attached))),
    ),
    family(
      'messaging_consumer_unsettled_seconds',
      'gauge',
      'How long a consumer with deliveries in hand has come to no outcome, in seconds.',
      perConsumer(({ unsettledMs }) => unsettledMs / 1_000),
    ),
    family('messaging_consumer_lag_messages', 'gauge', 'Messages that wait at the broker.', perName(waiting)),
    family('messaging_parked_messages', 'gauge', 'Events that wait in the inbox.', perName(parked)),
    family('messaging_dead_letters', 'gauge', 'Dead letters that wait for somebody.', perName(deadLetters)),
    family('messaging_outbox_messages', 'gauge', 'Messages in the outbox.', [[{}, outbox.depth]]),
    family('messaging_outbox_oldest_seconds', 'gauge', 'How long the first message in the outbox has waited.', [
      [{}, outbox.oldestAgeMs / 1_000],
    ]),
    family('messaging_outbox_held_keys', 'gauge', 'Keys whose events wait behind one that Kafka refused.', [
      [{}, outbox.heldKeys],
    ]),
    family('messaging_outbox_failing_addresses', 'gauge', 'Queues and topics to which nothing can be sent for now.', [
      [{}, outbox.failingAddresses],
    ]),
    family('messaging_outbox_shards', 'gauge', 'Shards of the outbox that this instance relays, of 16 in all.', [
      [{}, outbox.shards],
    ]),
    family('messaging_problems', 'gauge', 'Parts that do not get on with their work.', [[{}, problems]]),
  ];
}

type Labels = Readonly<Record<string, string>>;

function family(
  name: string,
  type: 'counter' | 'gauge',
  help: string,
  values: readonly (readonly [Labels, number])[],
): MetricFamily {
  return { name, type, help, samples: values.map(([labels, value]) => ({ name, labels, value })) };
}

function histogram(name: string, labels: Labels, { bounds, cumulative, sum, count }: TypeMonitor['processing']) {
  const bucket = (le: string, value: number): MetricSample => ({
    name: `${name}_bucket`,
    labels: { ...labels, le },
    value,
  });
  return [
    ...cumulative.map((value, at) => bucket(String(bounds[at]), value)),
    bucket('+Inf', count),
    { name: `${name}_sum`, labels, value: sum },
    { name: `${name}_count`, labels, value: count },
  ];
}
