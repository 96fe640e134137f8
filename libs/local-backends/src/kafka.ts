import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readFile } from 'node:fs/promises';
import type { Backend, BackendOptions, TlsFiles } from './backend.js';
import type { DataFolder } from './data-folder.js';
import { findJava, kafkaJars } from './kafka-jars.js';
import { answers, answersTls } from './network-probe.js';
import { run } from './programs.js';
import { startServer, type PreparedServer } from './server-process.js';

/** ApiVersions, version 0, without a client id: every Kafka broker answers it, and before any authentication. */
const apiVersionsRequest = Buffer.from([0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);

export interface KafkaBackendOptions extends BackendOptions {
  /** Port on the loopback to which clients are sent, that of a proxy for one; default: the broker's own. */
  readonly advertisedPort?: number;
  /** With `tls`: who may come, by SASL PLAIN. */
  readonly user?: { readonly name: string; readonly password: string };
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
      prepare: (folder, ports) => prepare([java, ...jvmOptions, '-cp', join(jars, '*')], folder, ports, options),
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

/** The broker is a client of itself, with the certificate that it has as a server. */
async function security(
  folder: DataFolder,
  { ca, cert, key }: TlsFiles,
  user: KafkaBackendOptions['user'],
): Promise<string> {
  const pem = await Promise.all([key, cert].map((path) => readFile(path, 'utf8')));
  const lines = [
    'ssl.keystore.type=PEM',
    `ssl.keystore.location=${await folder.write('keystore.pem', pem.join('\n'))}`,
    'ssl.truststore.type=PEM',
    `ssl.truststore.location=${await folder.copy('ca.pem', ca)}`,
    'ssl.client.auth=required',
  ];
  if (user) {
    const module = 'org.apache.kafka.common.security.plain.PlainLoginModule';
    const { name, password } = user;
    lines.push(
      'sasl.enabled.mechanisms=PLAIN',
      'sasl.mechanism.inter.broker.protocol=PLAIN',
      `listener.name.sasl_ssl.plain.sasl.jaas.config=${module} required username="${name}" password="${password}" user_${name}="${password}";`,
    );
  }
  return lines.join('\n');
}

async function prepare(
  java: readonly [string, ...string[]],
  folder: DataFolder,
  [port = 0, controllerPort = 0]: readonly number[],
  { advertisedPort = port, tls, user }: KafkaBackendOptions,
): Promise<PreparedServer> {
  const protocol = tls ? (user ? 'SASL_SSL' : 'SSL') : 'PLAINTEXT';
  const configuration = await folder.write(
    'server.properties',
    `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controllerPort}
listeners=${protocol}://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=${protocol}://127.0.0.1:${advertisedPort},CONTROLLER://127.0.0.1:${controllerPort}
controller.listener.names=CONTROLLER
listener.security.protocol.map=${protocol}:${protocol},CONTROLLER:PLAINTEXT
inter.broker.listener.name=${protocol}
${tls ? await security(folder, tls, user) : ''}
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
    isReady: () => (tls ? answersTls(port) : answers(port, apiVersionsRequest)),
  };
}
