import type * as module from './failpoint.js';
import { failpointsOf } from './failpoint.js';

it('does nothing unless it is told to', () => {
  expect(() => failpointsOf(undefined)('outbox.after-confirm')).not.toThrow();
  expect(() => failpointsOf('outbox.after-confirm:throw')('outbox.after-delete')).not.toThrow();
});

it('is armed by the environment of its process', async () => {
  process.env['FAILPOINT'] = 'outbox.after-confirm:throw';
  try {
    // A module of its own: the others have read the environment before.
    const { failpoint } = (await import(`${'./failpoint.js'}?armed`)) as typeof module;
    expect(() => failpoint('outbox.after-confirm')).toThrow('was told to throw');
  } finally {
    delete process.env['FAILPOINT'];
  }
});

it('fires the n-th time that its point is passed, and once', () => {
  const failpoint = failpointsOf('outbox.after-confirm:throw@3, command.before-ack:throw');
  const pass = (): string => {
    try {
      failpoint('outbox.after-confirm');
      return 'passed';
    } catch {
      return 'failed';
    }
  };
  expect(Array.from({ length: 5 }, pass)).toEqual(['passed', 'passed', 'failed', 'passed', 'passed']);
  expect(() => failpoint('command.before-ack')).toThrow('command.before-ack');
});

it('fires for one message only where it names one, and whenever it comes', () => {
  const failpoint = failpointsOf('message.handling=a-1:throw, message.handling=b-2:throw');
  expect(() => failpoint('message.handling', 'c-3')).not.toThrow();
  expect(() => failpoint('message.handling', 'b-2')).toThrow('message.handling');
  for (let n = 0; n < 3; n += 1) {
    expect(() => failpoint('message.handling', 'a-1')).toThrow('message.handling');
  }
});

it.each(['outbox.after-confirm', 'outbox:kill', 'outbox.after-confirm:explode', 'outbox.after-confirm:kill@0'])(
  'refuses %s and says what may be written',
  (text) => expect(() => failpointsOf(text)).toThrow(/kill or stop or throw at transaction.before-commit, /),
);
