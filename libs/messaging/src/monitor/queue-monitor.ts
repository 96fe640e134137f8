import { add, ConsumerMonitor, newCounts, otherTypes, type Counts } from './consumer-monitor.js';
import type { PublicationListener } from './counted-transports.js';

/** Types published under their own names; those beyond count as {@link otherTypes}, so that labels stay bounded. */
const mostTypes = 500;

export interface Published {
  readonly channel: 'command' | 'event';
  readonly type: string;
  readonly count: number;
}

export interface ConsumerSnapshot extends Counts {
  readonly consumer: string;
  /** Deliveries that came to an outcome, and parked ones that did later. */
  readonly consumed: number;
  readonly inFlight: number;
  /** Milliseconds from the delivery to its outcome. */
  readonly meanProcessingMs: number;
  /** Part of what was consumed that failed: retried or dead-lettered, 0 to 1. */
  readonly errorRate: number;
}

export interface QueueSnapshot {
  /** Messages that a broker has confirmed. */
  readonly published: number;
  /** Requests to a broker that failed; what was in them is sent again. */
  readonly publishFailures: number;
  readonly consumers: readonly ConsumerSnapshot[];
}

/**
 * What a service has published and consumed since its process started. Plain numbers, written where it happens and read
 * when somebody asks; `metricFamilies` puts them in the form of Prometheus.
 */
export class QueueMonitor implements PublicationListener {
  private readonly consumers = new Map<string, ConsumerMonitor>();
  private readonly sent = { command: new Map<string, number>(), event: new Map<string, number>() };
  readonly publishFailures = { command: 0, event: 0 };

  /** One for each name of a consumer. */
  consumer(name: string): ConsumerMonitor {
    const monitor = this.consumers.get(name) ?? new ConsumerMonitor();
    this.consumers.set(name, monitor);
    return monitor;
  }

  get byConsumer(): ReadonlyMap<string, ConsumerMonitor> {
    return this.consumers;
  }

  published(channel: 'command' | 'event', type: string): void {
    const sent = this.sent[channel];
    const counted = sent.has(type) || sent.size < mostTypes ? type : otherTypes;
    sent.set(counted, (sent.get(counted) ?? 0) + 1);
  }

  failed(channel: 'command' | 'event'): void {
    this.publishFailures[channel] += 1;
  }

  get publications(): readonly Published[] {
    return (['command', 'event'] as const).flatMap((channel) =>
      [...this.sent[channel]].map(([type, count]) => ({ channel, type, count })),
    );
  }

  /** Over all consumers and types. */
  get totals(): Counts {
    const totals = newCounts();
    for (const consumer of this.consumers.values()) add(totals, consumer.totals);
    return totals;
  }

  snapshot(): QueueSnapshot {
    return {
      published: this.publications.reduce((sum, { count }) => sum + count, 0),
      publishFailures: this.publishFailures.command + this.publishFailures.event,
      consumers: [...this.consumers].map(([name, monitor]) => snapshotOf(name, monitor)),
    };
  }
}

function snapshotOf(consumer: string, monitor: ConsumerMonitor): ConsumerSnapshot {
  const { totals } = monitor;
  const consumed = Object.values(totals).reduce((sum, count) => sum + count, 0);
  const processing = [...monitor.types.values()].map((type) => type.processing);
  const timed = processing.reduce((all, { count }) => all + count, 0);
  const seconds = processing.reduce((all, { sum }) => all + sum, 0);
  return {
    consumer,
    ...totals,
    consumed,
    inFlight: monitor.inFlight,
    meanProcessingMs: timed === 0 ? 0 : (1_000 * seconds) / timed,
    errorRate: consumed === 0 ? 0 : (totals.retried + totals.deadLettered) / consumed,
  };
}
