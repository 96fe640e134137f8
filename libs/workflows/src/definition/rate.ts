import { parseRate } from '@starter/messaging';
import { z } from 'zod';

/** How many per second, minute, hour or day: `5/s`, `100/h`. */
export type RateText = `${number}/${'s' | 'm' | 'h' | 'd'}`;

/** More at once would be too many for one transaction. */
const mostPerSecond = 500;

export const rate = z.string().superRefine((text, context) => {
  try {
    if (parseRate(text).everyMs >= 1_000 / mostPerSecond) return;
    context.addIssue({
      code: 'custom',
      message: `${text} is faster than ${mostPerSecond}/s; leave out the rate limit`,
    });
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
  }
});

/** So many may begin together, and then none for so long: about a second, or more when fewer may. */
export function portionOf(text: string): { readonly size: number; readonly everyMs: number } {
  const { everyMs } = parseRate(text);
  const size = Math.max(1, Math.ceil(1_000 / everyMs));
  return { size, everyMs: Math.ceil(size * everyMs) };
}
