import { z } from 'zod';

const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
type Unit = keyof typeof units;

/** A whole number with a unit: `500ms`, `30s`, `5m`, `24h`, `7d`. */
export type Duration = `${number}${Unit}`;

const error = 'a duration is a whole number with a unit: 500ms, 30s, 5m, 24h or 7d';
export const duration = z.string({ error }).regex(/^\d{1,12}(ms|s|m|h|d)$/, { error });

/** In milliseconds. */
export function durationMs(text: string): number {
  const unit = text.replace(/^\d+/, '') as Unit;
  return Number.parseInt(text, 10) * units[unit];
}
