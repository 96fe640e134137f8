import { ValidationError } from '../errors.js';

/** A rate as the database counts it. */
export interface Rate {
  /** Milliseconds from one message to the next. */
  readonly everyMs: number;
  /** As many may go at once: those of a tenth of a second, and at least one. */
  readonly burst: number;
}

const periods = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const format = /^\s*([1-9]\d{0,8})\s*\/\s*(?:(s)(?:ec|econd)?|(m)(?:in|inute)?|(h)(?:our)?|(d)(?:ay)?)\s*$/;

/**
 * Reads `"100/h"`, `"5/s"`, `"10/minute"`.
 * @throws ValidationError that shows what is right
 */
export function parseRate(text: string): Rate {
  const [, count, ...units] = format.exec(text) ?? [];
  const unit = units.find((one) => one !== undefined) as keyof typeof periods | undefined;
  if (count === undefined || unit === undefined) {
    const advice = 'write how many per s, m, h or d, such as "5/s", "10/m", "100/h" or "1000/d"';
    throw new ValidationError(`"${text}" is no rate limit; ${advice}`);
  }
  const everyMs = periods[unit] / Number(count);
  return { everyMs, burst: Math.max(1, Math.floor(100 / everyMs)) };
}
