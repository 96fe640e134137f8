import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { installWithApt } from './apt.js';
import { MissingPrerequisiteError } from './backend.js';
import { findProgram, run } from './programs.js';

const version = '4.1.0';
const otherwise = 'or set KAFKA_BROKERS to a running Kafka';

/** @throws MissingPrerequisiteError without Java 17 or newer, where we cannot install it */
export async function findJava(): Promise<string> {
  const java = () => findProgram('java');
  if (!java()) {
    await installWithApt(['default-jre-headless'], {
      missing: 'Java is not installed (no `java` on the PATH)',
      otherwise,
    });
  }
  const path = java() ?? 'java';
  const [, major] = /version "(\d+)/.exec(await run({ command: [path, '-version'], identity: {} })) ?? [];
  if (Number(major) >= 17) return path;
  throw new MissingPrerequisiteError(
    `Kafka ${version} needs Java 17 or newer, but ${path} is version ${major}: put a newer one first on the PATH, ${otherwise}.`,
  );
}

/** Folder with the jars of a Kafka broker; downloads them once. */
export async function kafkaJars(): Promise<string> {
  const home = process.env['KAFKA_HOME'];
  if (home !== undefined && home !== '') {
    if (existsSync(join(home, 'libs'))) return join(home, 'libs');
    throw new MissingPrerequisiteError(
      `KAFKA_HOME is ${home}, which has no folder \`libs\`: correct or unset it, ${otherwise}.`,
    );
  }
  const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'microservice-starter');
  const jars = join(cache, `kafka-${version}`);
  if (!existsSync(jars)) await download(cache, jars);
  return jars;
}

/** Downloads into a folder of another name first: half a download is never taken for a whole one. */
async function download(cache: string, jars: string): Promise<void> {
  if (!findProgram('mvn')) {
    await installWithApt(['maven'], {
      missing: `Kafka ${version} is not there, and no Maven to download it (no \`mvn\` on the PATH)`,
      otherwise: `else set KAFKA_HOME to an unpacked Kafka, ${otherwise}`,
    });
  }
  await mkdir(cache, { recursive: true });
  const draft = await mkdtemp(`${jars}.draft-`);
  try {
    const pom = join(draft, 'pom.xml');
    await writeFile(pom, projectThatNeedsKafka);
    const copy = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies';
    await run({
      command: [
        'mvn',
        '-q',
        '-B',
        '-f',
        pom,
        copy,
        '-DincludeScope=runtime',
        `-DoutputDirectory=${join(draft, 'jars')}`,
      ],
      identity: {},
    }).catch((error: Error) => {
      const remedy = `Check the network, set KAFKA_HOME to an unpacked Kafka, ${otherwise}.`;
      throw new MissingPrerequisiteError(`Kafka ${version} cannot be downloaded. ${remedy}\n${error.message}`);
    });
    await rename(join(draft, 'jars'), jars).catch((error: unknown) => {
      if (!existsSync(jars)) throw error; // Else another process was quicker, and its download is as good.
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

const projectThatNeedsKafka = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId>
  <artifactId>kafka-broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>${version}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>2.24.3</version>
    </dependency>
  </dependencies>
</project>
`;
