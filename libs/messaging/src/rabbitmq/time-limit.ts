import { TransientError } from '../errors.js';

/** Longest that the broker may take to set up one channel, connection or topology. */
export const longestSetupMs = 30_000;

/**
 * A broker may leave a request without an answer for ever, e.g. on a queue that has lost its leader.
 * @throws TransientError when the work has not settled within the limit; the work itself goes on
 */
export async function withinLimit<T>(work: Promise<T>, limitMs = longestSetupMs): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(
        new TransientError(`RabbitMQ did not answer within ${limitMs} ms; check that all its queues have a leader`),
      );
    }, limitMs);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
