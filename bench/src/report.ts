import Table from 'cli-table3';
import type { Figures } from './benchmark.js';
import type { Ratio, Result } from './rounds.js';

/** Figures as a table, below it the ratios with their targets. */
export function report({ title, unit, rates, ratios }: Result): string {
  const table = new Table({ head: [title, unit, 'range'], style: { head: [], border: [], compact: true } });
  for (const [name, { median, min, max }] of Object.entries(rates)) {
    table.push([name, figure(median), `${figure(min)} – ${figure(max)}`]);
  }
  return [table.toString(), ...ratios.map(ratioLine), ''].join('\n');
}

export function reportFigures({ title, figures }: Figures): string {
  const table = new Table({ head: [title, ''], style: { head: [], border: [], compact: true } });
  for (const [name, value] of Object.entries(figures)) table.push([name, figure(value)]);
  return `${table.toString()}\n`;
}

/** `ours / raw insert 0.93 (target ≥ 0.80) ok` */
export function ratioLine({ of, against, ratio, atLeast, atMost, reached }: Ratio): string {
  const target = atLeast === undefined ? `≤ ${(atMost ?? 0).toFixed(2)}` : `≥ ${atLeast.toFixed(2)}`;
  return `${of} / ${against} ${ratio.toFixed(2)} (target ${target}) ${reached ? 'ok' : 'MISSED'}`;
}

const figure = (value: number): string =>
  value.toLocaleString('en-US', { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 });
