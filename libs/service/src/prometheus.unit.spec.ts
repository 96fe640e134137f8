import {
  createMessage,
  done,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  silentLogger,
} from '@starter/messaging';
import { readFileSync } from 'node:fs';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import { ServiceMetrics } from './prometheus.js';

const newMessaging = (service: string) => {
  const messaging = new Messaging({
    service,
    dataSource: new DataSource({ type: 'postgres' }),
    commands: new MemoryCommandTransport(),
    events: new MemoryEventTransport(),
    logger: silentLogger,
    partitions: 1,
  });
  const definition = { kind: 'command', type: 'spec.known', version: 1, owner: 'spec', schema: z.object({}) } as const;
  messaging.commands.handle(definition, async () => undefined);
  return messaging;
};

/** Delivers one message of each type to the service's command consumer. */
async function consume(messaging: Messaging, ...types: string[]): Promise<void> {
  const handle = messaging.monitor.consumer(messaging.commands.queue).watch(async () => done);
  for (const type of types) {
    const message = createMessage({ type, version: 1, source: 'spec', data: {} });
    await handle({ message, attempt: 1, redelivered: false, origin: 'spec' });
  }
}

it('documents every metric of ours, with its labels and its meaning, and no other', async () => {
  const messaging = newMessaging('documented');
  messaging.monitor.published('command', 'spec.known');
  await consume(messaging, 'spec.known');
  const text = await new ServiceMetrics(messaging).text();
  const exported = [...text.matchAll(/^# HELP (messaging_\w+) (.*)\n# TYPE \w+ (\w+)\n\w+\{(.*)\}/gm)].map(
    ([, name, help, type, labels = '']) => ({
      name,
      type,
      labels: [...labels.matchAll(/(\w+)="/g)].map(([, label]) => label).filter((l) => l !== 'service' && l !== 'le'),
      help,
    }),
  );
  const documented = readFileSync('docs/metrics.md', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| `messaging_'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map(([, name = '', type, labels = '', help = '']) => ({
      name: name.replaceAll('`', ''),
      type,
      labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label),
      help,
    }));
  expect(exported.length).toBeGreaterThan(10);
  expect(documented).toEqual(
    exported.map((metric) => ({ ...metric, help: expect.stringContaining(metric.help ?? '?') })),
  );
});

it('counts and times by type, and the types that nobody handles together', async () => {
  const messaging = newMessaging('counted');
  await consume(messaging, 'spec.known', 'spec.known', ...Array.from({ length: 1_000 }, (_, n) => `made.up-${n}`));
  const text = await new ServiceMetrics(messaging).text();
  const sample = (name: string, type: string, rest = '') =>
    text.match(
      new RegExp(`^${name}\\{consumer="counted.commands",type="${type}"${rest},service="counted"\\} (.*)$`, 'm'),
    )?.[1];
  expect(sample('messaging_messages_consumed_total', 'spec.known', ',outcome="handled"')).toBe('2');
  expect(sample('messaging_messages_consumed_total', 'other', ',outcome="handled"')).toBe('1000');
  expect(sample('messaging_processing_seconds_count', 'spec.known')).toBe('2');
  expect(sample('messaging_processing_seconds_bucket', 'spec.known', ',le="\\+Inf"')).toBe('2');
  expect(text).not.toContain('made.up');
});

it('keeps services of one process apart, and reads the present each time', async () => {
  const [one, other] = [newMessaging('one'), newMessaging('other')];
  const [metricsOfOne, metricsOfOther] = [new ServiceMetrics(one), new ServiceMetrics(other)];
  await metricsOfOne.text();
  one.monitor.failed('event');
  expect(await metricsOfOne.text()).toContain('messaging_publish_failures_total{channel="event",service="one"} 1');
  expect(await metricsOfOther.text()).toContain('messaging_publish_failures_total{channel="event",service="other"} 0');
  expect(await metricsOfOne.text()).toMatch(/process_cpu_seconds_total\{service="one"\}/);
});
