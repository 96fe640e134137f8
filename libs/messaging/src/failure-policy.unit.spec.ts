import { TerminalError, TimeoutError, TransientError, UnroutableError, ValidationError } from './errors.js';
import { backoffDelay, outcomeOf, outcomeOfOpening, retriesExhausted } from './failure-policy.js';

const withCode = (code: string): Error => Object.assign(new Error('failed'), { code });
const exact = { backoff: { jitter: 0 } };

describe('outcomeOf', () => {
  it.each([
    new ValidationError('ours'),
    Object.assign(new Error('of joi, yup or an answer'), { name: 'ValidationError' }),
  ])('never takes what a handler throws for a fault of the message: %o', (error) => {
    const stack = expect.stringContaining('failure-policy.unit.spec');
    expect(outcomeOf(error, 1)).toMatchObject({ kind: 'dead-letter', errorType: 'ValidationError', stack });
  });

  it.each([
    new TransientError('busy'),
    new TimeoutError('too slow'),
    new DOMException('The operation timed out', 'TimeoutError'),
    withCode('ECONNREFUSED'),
    withCode('ECONNRESET'),
    withCode('ETIMEDOUT'),
    withCode('EPIPE'),
    withCode('08006'),
    withCode('40001'),
    withCode('40P01'),
    withCode('53300'),
    withCode('57P01'),
    withCode('57P03'),
    withCode('55P03'),
    new Error('Connection terminated unexpectedly'),
    new Error('wrapped', { cause: withCode('57P01') }),
    Object.assign(new Error('QueryFailedError'), { driverError: withCode('40001') }),
    new AggregateError([withCode('ECONNREFUSED')]),
  ])('retries the transient %o', (error) => {
    expect(outcomeOf(error, 1)).toMatchObject({ kind: 'retry' });
  });

  it('backs off exponentially', () => {
    const delays = [1, 2, 3].map((attempt) => outcomeOf(new TransientError('busy'), attempt, exact));
    expect(delays).toMatchObject([{ afterMs: 1000 }, { afterMs: 2000 }, { afterMs: 4000 }]);
  });

  it('gives up after the third retry', () => {
    expect(outcomeOf(new TransientError('busy'), 4)).toEqual({
      kind: 'dead-letter',
      errorType: retriesExhausted,
      reason: 'still failing after 4 attempts: TransientError: busy',
      stack: expect.stringContaining('failure-policy.unit.spec'),
    });
    expect(outcomeOf(new TransientError('busy'), 1, { maxRetries: 0 })).toMatchObject({ errorType: retriesExhausted });
  });

  it.each([
    [new TerminalError('no'), 'TerminalError'],
    [new UnroutableError('no queue'), 'UnroutableError'],
    [new RangeError('bug'), 'RangeError'],
    [withCode('23505'), 'Error'],
    [withCode('57014'), 'Error'],
    ['a string', 'Error'],
    [undefined, 'Error'],
  ])('gives %o to a human at once', (error, errorType) => {
    expect(outcomeOf(error, 1)).toMatchObject({ kind: 'dead-letter', errorType });
  });

  it('survives errors that cause each other', () => {
    const error = new Error('loop');
    error.cause = error;
    expect(outcomeOf(error, 1)).toMatchObject({ kind: 'dead-letter' });
  });
});

describe('backoffDelay', () => {
  it('never exceeds the longest delay', () => {
    for (let n = 1; n < 50; n++) expect(backoffDelay(n, { maxMs: 5000 })).toBeLessThanOrEqual(5000);
  });

  it('spreads by the jitter, downwards', () => {
    for (let n = 0; n < 50; n++) {
      const delay = backoffDelay(1, { baseMs: 1000, jitter: 0.5 });
      expect(delay).toBeGreaterThanOrEqual(500);
      expect(delay).toBeLessThanOrEqual(1000);
    }
  });
});

describe('outcomeOfOpening', () => {
  it('discards a message that does not fit its contract, with the reason', () => {
    const reason = 'ValidationError: email is missing';
    expect(outcomeOfOpening(new ValidationError('email is missing'))).toEqual({ kind: 'discard', reason });
  });

  it.each([new TerminalError('upcasting failed'), new TypeError('a schema has a defect'), 'a string'])(
    'gives %o to a human: the message may be right',
    (error) => {
      expect(outcomeOfOpening(error)).toMatchObject({ kind: 'dead-letter' });
    },
  );
});

it('keeps the stacks of what caused an error, within bounds', () => {
  const cause = new RangeError('the cause');
  const { stack } = outcomeOf(new Error('wrapped', { cause }), 1) as { stack?: string };
  expect(stack).toMatch(/^Error: wrapped\n[^]*caused by RangeError: the cause\n/);
  const deep = Object.assign(new Error('deep'), { stack: 'x'.repeat(100_000) });
  expect(outcomeOf(deep, 1)).toMatchObject({ stack: 'x'.repeat(4_000) });
});
