import { metricFamilies, type Messaging, type MetricFamily } from '@starter/messaging';
import { collectDefaultMetrics, Registry, type Metric } from 'prom-client';

/**
 * What `GET /metrics` answers: the messages of the service, and the process it runs in. A registry of its own, because several
 * services may run in one process.
 */
export class ServiceMetrics {
  private readonly registry = new Registry();
  private readonly others: (() => readonly MetricFamily[])[] = [];

  constructor(private readonly messaging: Messaging) {
    this.registry.setDefaultLabels({ service: messaging.service });
    collectDefaultMetrics({ register: this.registry });
  }

  /** Adds what a part of the service counts itself; it is read with each question, and must cost nothing. */
  add(read: () => readonly MetricFamily[]): void {
    this.others.push(read);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  /** In the text format of Prometheus. */
  async text(): Promise<string> {
    this.readFamilies();
    return this.registry.metrics();
  }

  /** The families are read as a whole at the moment of the question, so each metric only hands over what was read. */
  private readFamilies(): void {
    const { monitor, backlog, relay } = this.messaging;
    const problems = this.messaging.problems().length;
    const own = metricFamilies(monitor, backlog.latest, relay.metrics, problems);
    for (const { name, help, type, samples } of [...own, ...this.others.flatMap((read) => read())]) {
      const values = samples.map(({ name: metricName, ...sample }) => ({ ...sample, metricName }));
      const object = { name, help, type, aggregator: 'sum', values };
      this.registry.removeSingleMetric(name);
      this.registry.registerMetric({ ...object, get: () => Promise.resolve(object) } as unknown as Metric);
    }
  }
}
