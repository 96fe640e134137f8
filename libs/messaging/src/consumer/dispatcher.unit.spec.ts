import { z } from 'zod';
import { TerminalError, TransientError, ValidationError } from '../errors.js';
import type { FailurePolicy } from '../failure-policy.js';
import { silentLogger, type Logger } from '../logger.js';
import { createMessage } from '../message.js';
import { deadLetter } from '../outcome.js';
import { Dispatcher, type MessageHandler } from './dispatcher.js';
import type { HandlerOptions } from './handler-options.js';

const DoIt = { kind: 'command', type: 'test.do-it', version: 1, owner: 'test', schema: z.object({}) } as const;
const message = createMessage({ type: DoIt.type, version: 1, source: 'spec', data: {} });

const failWith =
  (error: Error): MessageHandler<object> =>
  () =>
    Promise.reject(error);
const never = () => new Promise<void>(() => undefined);

function dispatcherOf(handler: MessageHandler<object>, options: HandlerOptions = {}, failurePolicy?: FailurePolicy) {
  const logged: [string, string][] = [];
  const log = (level: string) => (text: string) => void logged.push([level, text]);
  const logger: Logger = { ...silentLogger, warn: log('warn'), error: log('error') };
  const discarded: string[] = [];
  const dispatcher = new Dispatcher({
    consumer: 'spec',
    logger,
    ...(failurePolicy ? { failurePolicy } : {}),
    discarded: async ({ reason }) => void discarded.push(reason),
  });
  dispatcher.register(DoIt, handler, options);
  return { dispatcher, logged, discarded };
}

it('does not blame a message for a handler that failed because nobody waited for it any more', async () => {
  let fail!: (error: Error) => void;
  const { dispatcher, logged } = dispatcherOf(() => new Promise((_, reject) => (fail = reject)));
  const outcome = dispatcher.dispatch(message, 1);
  dispatcher.abandon();
  fail(new Error('the pool is closed'));
  expect(await outcome).toMatchObject({ kind: 'retry', blameless: true });
  expect(logged).toEqual([['warn', 'a message will be tried again']]);
});

describe('whether a message is valid', () => {
  it('is told by opening it: its schema, and the check of its handler', async () => {
    const check: HandlerOptions['check'] = ({ subject }) => {
      if (subject === undefined) throw new ValidationError('it names nobody; set its subject');
    };
    const { dispatcher, discarded } = dispatcherOf(() => Promise.resolve(), { check });
    expect(await dispatcher.dispatch({ ...message, subject: 'a' }, 1)).toEqual({ kind: 'done' });
    expect(await dispatcher.dispatch({ ...message, data: 7, subject: 'a' }, 1)).toMatchObject({ kind: 'discard' });
    expect(await dispatcher.dispatch(message, 1)).toMatchObject({ kind: 'discard' });
    expect(discarded).toEqual([
      expect.stringContaining('test.do-it v1 was refused'),
      'ValidationError: it names nobody; set its subject',
    ]);
  });

  it('is not told by what its handler throws, nor by a check with a defect', async () => {
    const theirs = dispatcherOf(failWith(new ValidationError('an event of ours does not fit its schema')));
    expect(await theirs.dispatcher.dispatch(message, 1)).toMatchObject({
      ...{ kind: 'dead-letter', errorType: 'ValidationError', stack: expect.stringContaining('dispatcher.unit.spec') },
    });
    const defect: HandlerOptions['check'] = () => {
      throw new TypeError('cannot read properties of undefined');
    };
    const checked = dispatcherOf(() => Promise.resolve(), { check: defect });
    expect(await checked.dispatcher.dispatch(message, 1)).toMatchObject({
      kind: 'dead-letter',
      errorType: 'TypeError',
    });
    expect([theirs.discarded, checked.discarded]).toEqual([[], []]);
  });
});

describe('the failure policy of a handler', () => {
  it('comes before that of the service, field by field', async () => {
    const backoff = { baseMs: 7, jitter: 0 };
    const busy = failWith(new TransientError('busy'));
    const { dispatcher } = dispatcherOf(busy, { failurePolicy: { maxRetries: 1 } }, { maxRetries: 9, backoff });
    expect(await dispatcher.dispatch(message, 1)).toMatchObject({ kind: 'retry', afterMs: 7 });
    expect(await dispatcher.dispatch(message, 2)).toMatchObject({ kind: 'dead-letter' });
  });

  it('tells an escalation from other dead letters, in its type and in the log', async () => {
    const once = { failurePolicy: { maxRetries: 0 } };
    const escalated = dispatcherOf(failWith(new TransientError('busy')), once);
    expect(await escalated.dispatcher.dispatch(message, 1)).toMatchObject({ errorType: 'RetriesExhausted' });
    expect(escalated.logged).toEqual([['error', 'a message is escalated: no retry has helped']]);
    const broken = dispatcherOf(failWith(new TerminalError('no')), once);
    expect(await broken.dispatcher.dispatch(message, 1)).toMatchObject({ errorType: 'TerminalError' });
    expect(broken.logged).toEqual([['error', 'a message needs a human']]);
  });

  it.each([
    ['validation', 'discard'],
    ['transient', 'retry'],
    ['terminal', 'dead-letter'],
    [undefined, 'dead-letter'],
  ] as const)('may classify an error as %s: %s', async (failure, kind) => {
    const classify = (error: unknown) => (error instanceof RangeError ? failure : undefined);
    const { dispatcher, discarded } = dispatcherOf(failWith(new RangeError('odd')), { failurePolicy: { classify } });
    expect(await dispatcher.dispatch(message, 1)).toMatchObject({ kind });
    expect(discarded).toEqual(kind === 'discard' ? ['RangeError: odd'] : []);
  });
});

describe('the time limit of a handler', () => {
  it('aborts the signal at the soft limit, and the handler may still end well', async () => {
    const reasons: unknown[] = [];
    const { dispatcher } = dispatcherOf(
      ({ signal }) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            reasons.push((signal.reason as Error).message);
            resolve();
          });
        }),
      { timeLimit: { softMs: 5, hardMs: 60_000 } },
    );
    expect(await dispatcher.dispatch(message, 1)).toEqual({ kind: 'done' });
    expect(reasons).toEqual(['the handler of test.do-it has run for 5 ms, its soft time limit; end it now']);
  });

  it('fails the attempt at the hard limit, which is transient, and ignores what comes of it later', async () => {
    let finish: (() => void) | undefined;
    const { dispatcher, logged } = dispatcherOf(
      async () => {
        await new Promise<void>((resolve) => (finish = resolve));
        return deadLetter('late');
      },
      { timeLimit: { hardMs: 10 } },
    );
    const outcome = await dispatcher.dispatch(message, 1);
    expect(outcome).toMatchObject({ kind: 'retry', reason: expect.stringContaining('hard time limit') as string });
    finish?.();
    await new Promise(setImmediate);
    expect(logged.at(-1)).toEqual(['warn', 'a handler ended after its hard time limit; its result is ignored']);
  });

  it('has no timer where the handler bounds its time itself', async () => {
    const { dispatcher } = dispatcherOf(
      async ({ fence, signal }) => deadLetter(`${fence ? 'fenced' : 'free'}, ${signal.aborted ? 'over' : 'going on'}`),
      { timeLimit: 'none' },
    );
    expect(await dispatcher.dispatch(message, 1)).toMatchObject({ reason: 'free, going on' });
  });

  it.each([['none'], [{ hardMs: 60_000 }]] as const)(
    'aborts when nobody waits any longer, with limit %o',
    (timeLimit) => {
      const signals: AbortSignal[] = [];
      const { dispatcher } = dispatcherOf(
        ({ signal }) => {
          signals.push(signal);
          return never();
        },
        { timeLimit },
      );
      void dispatcher.dispatch(message, 1);
      expect(signals.map(({ aborted }) => aborted)).toEqual([false]);
      dispatcher.abandon();
      expect(signals.map(({ aborted, reason }) => [aborted, String(reason)])).toEqual([
        [true, 'TransientError: spec stops; what is not done is delivered again'],
      ]);
    },
  );

  it.each([[{ softMs: 20, hardMs: 10 }], [{ hardMs: 0 }], [{ hardMs: 2 ** 31 }], [{ hardMs: NaN }]])(
    'refuses %o, and says what is possible',
    (timeLimit) => {
      expect(() => dispatcherOf(never, { timeLimit })).toThrow('give milliseconds with 0 < softMs <= hardMs');
    },
  );
});
