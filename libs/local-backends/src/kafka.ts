import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Backend, BackendOptions } from './backend.js';
import type { DataFolder } from './data-folder.js';
import { findJava, kafkaJars } from './kafka-jars.js';
import { answers } from './network-probe.js';
import { run } from './programs.js';
import { startServer, type PreparedServer } from './server-process.js';

/** ApiVersions, version 0, without a client id: every Kafka broker answers it, and before any authentication. */
const apiVersionsRequest = Buffer.from([0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);

export interface KafkaBackendOptions extends BackendOptions {
  /** Port on the loopback to which clients are sent, that of a proxy for one; default: the broker's own. */
  readonly advertisedPort?: number;
}

/**
 * Starts one Kafka broker in KRaft mode, which is its own controller. Takes the jars of KAFKA_HOME if that is set,
 * else Kafka 4.1.0 from Maven Central, kept in the user's cache folder.
 * @throws MissingPrerequisiteError when Java or the jars are not there and cannot be had
 */
export async function startKafka(options: KafkaBackendOptions = {}): Promise<Backend> {
  const java = await findJava();
  const jars = await kafkaJars();
  return startServer(
    {
      name: 'Kafka',
      folder: 'kafka',
      user: undefined, // Neither Kafka nor Java objects to root.
      ports: 2,
      prepare: (folder, ports) =>
        prepare([java, ...jvmOptions, '-cp', join(jars, '*')], folder, ports, options.advertisedPort ?? ports[0]),
    },
    options,
  );
}

/** 16 random bytes as Kafka writes them; never with a hyphen first, which its tools would take for an option. */
export const newClusterId = (): string => `A${randomBytes(16).toString('base64url').slice(1)}`;

const jvmOptions = [
  '-Xmx512m',
  '-XX:+UseSerialGC',
  '-Djava.awt.headless=true',
  '-Dorg.apache.logging.log4j.level=WARN',
];

async function prepare(
  java: readonly [string, ...string[]],
  folder: DataFolder,
  [port = 0, controllerPort = 0]: readonly number[],
  advertisedPort = port,
): Promise<PreparedServer> {
  const configuration = await folder.write(
    'server.properties',
    `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controllerPort}
listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=PLAINTEXT://127.0.0.1:${advertisedPort},CONTROLLER://127.0.0.1:${controllerPort}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=${folder.file('data')}
auto.create.topics.enable=false
delete.topic.enable=true
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=5
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=5
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.dedupe.buffer.size=16777216
# A killed broker is let in again only when its session has expired: by default that takes more than 10 s.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
`,
  );
  if (!existsSync(folder.file('data/meta.properties'))) {
    const format = [
      'kafka.tools.StorageTool',
      'format',
      '--ignore-formatted',
      '-t',
      newClusterId(),
      '-c',
      configuration,
    ];
    await run({ command: [...java, ...format], identity: {} });
  }
  return {
    url: `127.0.0.1:${port}`,
    command: [...java, 'kafka.Kafka', configuration],
    environment: process.env,
    stopSignal: 'SIGTERM',
    isReady: () => answers(port, apiVersionsRequest),
  };
}
