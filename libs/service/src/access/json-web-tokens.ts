import { createRemoteJWKSet, errors, jwtVerify, type JWTPayload } from 'jose';
import type { Caller } from './access.js';
import { isRole, type Credentials } from './credentials.js';

export interface JsonWebTokenOptions {
  readonly jwksUrl: string;
  readonly issuer: string;
  readonly audience: string;
  /** Where the roles are, such as `roles` or `realm_access.roles`: an array, or a text with spaces between them. */
  readonly roleClaim: string;
}

/** Signed by who has the private key; a secret that this service knew as well could be used to make tokens. */
const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];

/** JWTs of an identity provider, checked with the keys that it publishes. */
export class JsonWebTokens implements Credentials {
  private readonly keys: ReturnType<typeof createRemoteJWKSet>;

  constructor(private readonly options: JsonWebTokenOptions) {
    this.keys = createRemoteJWKSet(new URL(options.jwksUrl));
  }

  async callerOf(token: string): Promise<Caller | undefined> {
    const { issuer, audience, roleClaim } = this.options;
    try {
      const { payload } = await jwtVerify(token, this.keys, {
        issuer,
        audience,
        algorithms,
        requiredClaims: ['sub', 'exp'],
        // Seconds.
        clockTolerance: 30,
      });
      return { subject: String(payload.sub), roles: new Set(claimed(payload, roleClaim).filter(isRole)) };
    } catch (error) {
      if (isAboutTheToken(error)) return undefined;
      throw error;
    }
  }
}

/** And not about the provider, which does not answer or answers nonsense. */
const isAboutTheToken = (error: unknown): boolean =>
  error instanceof errors.JWTClaimValidationFailed ||
  error instanceof errors.JWTExpired ||
  error instanceof errors.JWTInvalid ||
  error instanceof errors.JWSInvalid ||
  error instanceof errors.JWSSignatureVerificationFailed ||
  error instanceof errors.JWKSNoMatchingKey ||
  error instanceof errors.JWKSMultipleMatchingKeys ||
  error instanceof errors.JOSEAlgNotAllowed ||
  error instanceof errors.JOSENotSupported;

function claimed(payload: JWTPayload, path: string): unknown[] {
  let value: unknown = payload;
  for (const name of path.split('.')) {
    value = typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? Reflect.get(value, name) : null;
  }
  if (typeof value === 'string') return value.split(' ');
  return Array.isArray(value) ? value : [];
}
