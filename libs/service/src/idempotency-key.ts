import { HttpStatus } from '@nestjs/common';
import type { Statement, Transaction } from '@starter/messaging';
import { createHmac, hkdfSync } from 'node:crypto';
import { configure } from 'safe-stable-stringify';
import { z } from 'zod';
import { ProblemException } from './problem.js';
import { SchemaPipe } from './schema.pipe.js';

const header = new SchemaPipe(z.object({ 'Idempotency-Key': z.string().min(1).max(255).optional() }));

/**
 * The checked Idempotency-Key header; called by hand, because Nest runs no pipes on headers.
 * @throws ProblemException 400 when it is empty or too long
 */
export const idempotencyKeyOf = (value: string | undefined): string | undefined =>
  header.transform({ 'Idempotency-Key': value })['Idempotency-Key'];

/** Deeper and wider than any request that is accepted. */
const canonical = configure({ strict: true, maximumDepth: 10_000, maximumBreadth: 100_000_000 });

const remember: Statement = {
  name: 'idempotency-key-remember',
  text: `INSERT INTO idempotency_key (key, fingerprint, answer) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING 1`,
};
const recall: Statement = {
  name: 'idempotency-key-recall',
  text: `SELECT fingerprint, answer FROM idempotency_key WHERE key = $1`,
};

/** What the first request with each Idempotency-Key was, and what it was answered. */
export class IdempotencyKeys {
  private readonly secret: Buffer;

  /** @param secret 32 bytes in base64; with another one no earlier request is recognised */
  constructor(secret: string) {
    this.secret = Buffer.from(hkdfSync('sha256', Buffer.from(secret, 'base64'), '', 'requests with a key', 32));
  }

  /**
   * The answer that was given to the first request with this Idempotency-Key; undefined when this is the first, and then
   * `answer` is remembered if the transaction commits. Requests with the same key at the same time wait for each other.
   * @throws ProblemException 422 when the key was used for another request
   */
  async earlierAnswer<Answer extends object>(
    tx: Transaction,
    key: string,
    request: unknown,
    answer: Answer,
  ): Promise<Answer | undefined> {
    const first = await tx.query(remember, [key, this.digestOf(request), JSON.stringify(answer)]);
    return first.length === 1 ? undefined : this.givenAnswer(tx, key, request);
  }

  /**
   * The answer that was given to a request with this Idempotency-Key, if any: for who has to work for an answer.
   * @throws ProblemException 422 when the key was used for another request
   */
  async givenAnswer<Answer extends object>(
    tx: Transaction,
    key: string,
    request: unknown,
  ): Promise<Answer | undefined> {
    const [first] = await tx.query<{ fingerprint: string; answer: Answer }>(recall, [key]);
    if (!first || first.fingerprint === this.digestOf(request)) return first?.answer;
    const detail = 'This Idempotency-Key was used for another request; use a new key for each request.';
    throw new ProblemException(HttpStatus.UNPROCESSABLE_ENTITY, detail);
  }

  /**
   * The same whatever the order of members. Keyed, because who reads the table could find out otherwise whether somebody has
   * sent what they guess.
   */
  private digestOf(request: unknown): string {
    return createHmac('sha256', this.secret)
      .update(canonical(request) ?? '')
      .digest('hex');
  }
}
