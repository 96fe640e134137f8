import { errorText } from '@starter/messaging';
import { readFile } from 'node:fs/promises';
import type { BaseSettings } from '../configuration.js';
import type { Addresses } from '../startup-server.js';
import type { Credentials } from './credentials.js';
import { JsonWebTokens } from './json-web-tokens.js';
import { isLoopback } from './loopback.js';
import { TokenFile } from './token-file.js';

/**
 * Who is known to a service; undefined when access is not configured.
 * @throws Error that says which variable to set, or which line of the file to mend
 */
export async function readCredentials(settings: BaseSettings): Promise<Credentials | undefined> {
  const { ACCESS_TOKENS_FILE: path } = settings;
  const tokens = path === undefined ? undefined : await readTokens(path, settings);
  const jwts = jsonWebTokens(settings);
  if (!tokens || !jwts) return tokens ?? jwts;
  // A JWT has two dots, and ours have none.
  return { callerOf: (token) => (token.includes('.') ? jwts : tokens).callerOf(token) };
}

/**
 * What the hashes of requests are keyed with.
 * @throws Error when a service that others can reach has no secret for it
 */
export function idempotencySecretOf(settings: BaseSettings, isOpen: boolean): string {
  const secret = settings.IDEMPOTENCY_SECRET ?? settings.PERSONAL_DATA_KEY;
  if (secret !== undefined) return secret;
  if (isOpen) return '';
  throw new Error('IDEMPOTENCY_SECRET is missing: set it to 32 bytes in base64, `openssl rand -base64 32`');
}

/** @throws Error when the service would be reachable for others without knowing anybody, or a port is none */
export function addressesOf(settings: BaseSettings, defaultPort: number, isOpen: boolean): Addresses {
  const { HOST: host = isOpen ? '127.0.0.1' : '0.0.0.0', PORT: port = defaultPort } = settings;
  const { MANAGEMENT_PORT: managementPort = port === 0 ? 0 : port + 100 } = settings;
  if (isOpen && !isLoopback(host)) {
    throw new Error(
      `HOST is ${host}, where others could reach a service that lets everybody do everything: set ACCESS_TOKENS_FILE or ` +
        'ACCESS_JWKS_URL (docs/access.md), or leave HOST out, which is 127.0.0.1 then',
    );
  }
  if (managementPort > 65_535 || (managementPort === port && port !== 0)) {
    throw new Error(`MANAGEMENT_PORT cannot be ${managementPort}: set it to a free port besides PORT, at most 65535`);
  }
  return { host, port, managementPort };
}

const exampleTokenRemedy =
  'make others with `npm run tokens -- FILE NAME=ROLE`, or set EXAMPLE_SECRETS=allowed to try things out';

async function readTokens(path: string, { EXAMPLE_SECRETS }: BaseSettings): Promise<TokenFile> {
  try {
    const file = TokenFile.parse(await readFile(path, 'utf8'));
    if (file.names.length === 0) throw new Error('it holds no token; make one with `npm run tokens -- FILE NAME=ROLE`');
    const { examples } = file;
    if (examples.length > 0 && EXAMPLE_SECRETS === 'refused') {
      throw new Error(`everybody knows the token of ${examples.join(', ')}: ${exampleTokenRemedy}`);
    }
    return file;
  } catch (error) {
    throw new Error(`ACCESS_TOKENS_FILE ${path} cannot be used: ${errorText(error)}`, { cause: error });
  }
}

function jsonWebTokens(settings: BaseSettings): JsonWebTokens | undefined {
  const { ACCESS_JWKS_URL: jwksUrl, ACCESS_ISSUER: issuer, ACCESS_AUDIENCE: audience } = settings;
  if (jwksUrl === undefined && issuer === undefined && audience === undefined) return undefined;
  if (jwksUrl === undefined || issuer === undefined || audience === undefined) {
    throw new Error('ACCESS_JWKS_URL, ACCESS_ISSUER and ACCESS_AUDIENCE belong together: set all three, or none');
  }
  return new JsonWebTokens({ jwksUrl, issuer, audience, roleClaim: settings.ACCESS_ROLE_CLAIM });
}
