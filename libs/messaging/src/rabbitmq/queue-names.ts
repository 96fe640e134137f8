export const deadLetterQueue = (queue: string): string => `${queue}.dead-letter`;

/** `delayMs` as {@link roundUpDelay} gives it. */
export const retryQueue = (queue: string, delayMs: number): string => `${queue}.retry.${delayMs}`;

/** Longest delay of a retry: 24 days, the longest that a timer of Node can wait. */
export const longestDelayMs = 2_100_000_000;

/**
 * Milliseconds, rounded up to two significant digits. Each delay is a queue of its own, so without rounding the jitter
 * of the backoff would make a queue per message; with it there are at most 90 per power of ten.
 */
export function roundUpDelay(delayMs: number): number {
  const whole = Math.min(longestDelayMs, Math.max(1, Math.ceil(delayMs)));
  const unit = 10 ** Math.max(0, String(whole).length - 2);
  return Math.ceil(whole / unit) * unit;
}
