/** What all secrets of `.env.example` begin with, also the one that is written in base64. */
const mark = 'change-me';
/** The demo's key of personal data. */
export const demoKey = Buffer.alloc(32, 'demo').toString('base64');

export const exampleSecretProblem =
  'is a secret of the template, which everybody knows: make one of your own (`openssl rand -base64 32` for a key; letters and ' +
  'digits for a password), or set EXAMPLE_SECRETS=allowed to try things out';

/** Names of the settings that hold such a secret; none where they are allowed. */
export function exampleSecretsIn(settings: object): string[] {
  if ('EXAMPLE_SECRETS' in settings && settings.EXAMPLE_SECRETS === 'allowed') return [];
  return Object.entries(settings)
    .filter(([, value]) => typeof value === 'string' && isExample(value))
    .map(([name]) => name);
}

const isExample = (value: string): boolean =>
  value === demoKey ||
  [value, decoded(value), Buffer.from(value, 'base64').toString('latin1')].some((text) => text.includes(mark));

/** A password in a URL may be encoded. */
function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
