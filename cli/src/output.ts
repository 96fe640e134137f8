import { createWriteStream } from 'node:fs';
import { rename } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { LoggedEvent } from '@starter/event-sourcing';
import { maskSealed } from '@starter/messaging';
import Table from 'cli-table3';

/** For whoever looks: sealed texts are masked. */
export const print = (lines: AsyncIterable<string> | Iterable<string>): Promise<void> => printExactly(masked(lines));

/** For what is to be read in again. Whoever reads what is printed (`| head`) may have enough of it: not an error. */
export async function printExactly(lines: AsyncIterable<string> | Iterable<string>): Promise<void> {
  try {
    await pipeline(Readable.from(withNewlines(lines)), process.stdout, { end: false });
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'EPIPE') throw error;
  }
}

/**
 * Under its name the file is complete, and on disk, or it is not there.
 * @returns how many lines it has
 */
export async function writeFileOf(lines: AsyncIterable<string>, file: string): Promise<number> {
  let count = 0;
  const part = `${file}.part`;
  const counted = eachOf(lines, () => (count += 1));
  await pipeline(withNewlines(counted), createWriteStream(part, { flush: true }));
  await rename(part, file);
  return count;
}

async function* masked(lines: AsyncIterable<string> | Iterable<string>) {
  for await (const line of lines) yield maskSealed(line);
}

async function* withNewlines(lines: AsyncIterable<string> | Iterable<string>) {
  for await (const line of lines) yield `${line}\n`;
}

/** The same lines; `onLine` is called for each when it is taken. */
export async function* eachOf(lines: AsyncIterable<string>, onLine: () => void): AsyncGenerator<string> {
  for await (const line of lines) {
    onLine();
    yield line;
  }
}

/** A status that a human sees and a program does not. */
export function showProgress(status: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${status}`);
}

/** A table for humans, without colours and with a line per row. */
export const newTable = (...head: string[]) => new Table({ head, style: { head: [], border: [], compact: true } });

const columns = (...cells: readonly [text: string, width: number][]): string =>
  cells
    .map(([text, width]) => text.padEnd(width))
    .join('  ')
    .trimEnd();

const row = (sequence: string, at: string, type: string, command: string, correlation: string, data: string) =>
  columns([sequence.padStart(8), 8], [at, 24], [type, 30], [command, 24], [correlation, 36], [data, 0]);

export const tableHead = row('sequence', 'time', 'type and version', 'command', 'correlation', 'data');

/** An event of a stream that is named elsewhere. */
export function tableRow(line: string): string {
  const event = JSON.parse(line) as LoggedEvent;
  const { sequence, command, correlation_id: correlation } = event;
  return row(`${sequence}`, timeOf(event), typeOf(event), command, correlation, JSON.stringify(event.data));
}

/** An event among those of other streams. */
export function feedRow(line: string): string {
  const event = JSON.parse(line) as LoggedEvent;
  const place = `${event.stream_id} #${event.sequence}`;
  return columns([timeOf(event), 24], [place, 46], [typeOf(event), 30], [JSON.stringify(event.data), 0]);
}

const timeOf = ({ recorded_at }: LoggedEvent): string => new Date(recorded_at).toISOString();
const typeOf = ({ type, version }: LoggedEvent): string => `${type} v${version}`;
