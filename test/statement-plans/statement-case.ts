import type { Value } from './query-plan.js';

/** A statement with the values of one call. */
export interface StatementCase {
  /** What these values stand for, where there are several cases. */
  readonly when?: string;
  readonly values: readonly Value[];
  /** Pages that it may read in spite of the rule, or `Infinity`, and why. */
  readonly mayRead?: { readonly pages: number; readonly because: string };
}

export const mayRead = (pages: number, because: string) => ({ mayRead: { pages, because } });

export type StatementCases = Readonly<Record<string, StatementCase | readonly StatementCase[]>>;

/** The values of one call. */
export const call = (...values: readonly Value[]): StatementCase => ({ values });

/** Rows that take part in each call. */
const batch = 50;

/** Every tenth row is the third consumer's: `key-3`, `key-13`, … */
export const consumer = 'c3';
export const own = (prefix: string, from = 0): string[] =>
  Array.from({ length: batch }, (_, n) => `${prefix}${10 * (from + n) + 3}`);
export const all = <T>(value: T): T[] => Array.from({ length: batch }, () => value);
export const numbers = Array.from({ length: batch }, (_, n) => n + 1);
export const fresh = numbers.map((n) => `new-${n}`);
export const uuid = (n: number): string => `00000000-0000-7000-8000-${n.toString(16).padStart(12, '0')}`;
export const uuids = (from = 1): string[] => numbers.map((n) => uuid(from + n));
export const json = (value: unknown): string => JSON.stringify(all(value));
const day = 86_400_000;
export const today = new Date().toISOString();
export const yesterday = new Date(Date.now() - day).toISOString();
