import { TimeoutError } from '../errors.js';

/**
 * kafkajs tries for minutes where a broker takes a connection and answers nothing.
 * @throws TimeoutError when the work has not settled within `ms`; the work itself goes on
 */
export async function withinTime<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TimeoutError(`Kafka did not answer within ${ms} ms: check that it runs`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
