import type { DataOf, SendEmail } from '@starter/contracts';

type Email = DataOf<typeof SendEmail>;

/**
 * A text without the recipient in it. Mail servers repeat the address in their answers, and what they say ends up in events,
 * replies and log lines, from which nothing can be erased.
 */
export function withhold(text: string, { to, variables }: Pick<Email, 'to' | 'variables'>): string {
  const words = [...to.split('@'), ...Object.values(variables)].filter((word) => word.trim() !== '');
  const longestFirst = words.sort((one, other) => other.length - one.length).map(escaped);
  const personal = new RegExp(`(?<![\\p{L}\\p{N}])(?:${longestFirst.join('|')})(?![\\p{L}\\p{N}])`, 'giu');
  return text.replace(/[^\s<>"'()]+@[^\s<>"'()]+/g, '[address]').replace(personal, '[personal]');
}

const escaped = (word: string): string => word.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
