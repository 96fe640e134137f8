import { failpointsOf } from './failpoint.js';

it('does nothing unless it is told to', () => {
  expect(() => failpointsOf(undefined)('outbox.after-confirm')).not.toThrow();
  expect(() => failpointsOf('outbox.after-confirm:throw')('outbox.after-delete')).not.toThrow();
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

it.each(['outbox.after-confirm', 'outbox:kill', 'outbox.after-confirm:explode', 'outbox.after-confirm:kill@0'])(
  'refuses %s and says what may be written',
  (text) => expect(() => failpointsOf(text)).toThrow(/kill or stop or throw at transaction.before-commit, /),
);
