import { z } from 'zod';

/** Names and subjects: what stands in a line of a mail or a log cannot begin another one. */
export const oneLine = (max: number) =>
  z
    .string()
    .trim()
    .min(1)
    .max(max)
    .regex(/^[^\p{Cc}\p{Zl}\p{Zp}]*$/u, 'must be one line: leave out line breaks, tabs and other control characters');
