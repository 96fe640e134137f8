export const deadLetterQueue = (queue: string): string => `${queue}.dead-letter`;

/** `delayMs` as {@link roundUpDelay} gives it. */
export const retryQueue = (queue: string, delayMs: number): string => `${queue}.retry.${delayMs}`;

/** Longest delay of a retry: 30 days. */
export const longestDelayMs = 30 * 86_400_000;

/** Within each power of ten; the next one is at most a seventh longer. */
const steps = [10, 11, 12, 13, 14, 16, 18, 20, 22, 24, 27, 30, 33, 36, 40, 45, 50, 55, 60, 66, 72, 80, 90, 100];

/**
 * Milliseconds, never shorter (but at most {@link longestDelayMs}) and at most a seventh longer. Each delay is a queue of its
 * own, so without rounding the jitter of the backoff would make a queue per message; with it there are at most 175 from 100 ms
 * to 30 days, and only those that are used.
 */
export function roundUpDelay(delayMs: number): number {
  const whole = Math.min(longestDelayMs, Math.max(1, Math.ceil(delayMs)));
  const unit = 10 ** (String(whole).length - 2);
  return Math.ceil((steps.find((step) => step * unit >= whole) ?? 100) * unit);
}
