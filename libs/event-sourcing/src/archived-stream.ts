import { TerminalError, type Statement, type Transaction } from '@starter/messaging';

/** The events that an actor would be loaded from are in a file. */
export class ArchivedStreamError extends TerminalError {}

const select: Statement = {
  name: 'archived-stream',
  text: `SELECT file, archived_at AS at FROM archived_stream WHERE stream_id = $1 ORDER BY up_to_sequence`,
};
const count: Statement = {
  name: 'archived-streams',
  text: `SELECT count(DISTINCT stream_id)::int AS streams FROM archived_stream`,
};

/**
 * Call it with the first event of a stream that is to be read from its beginning.
 * @throws ArchivedStreamError when the beginning was archived; it names the command that brings it back
 */
export async function refuseArchived(
  tx: Transaction,
  { stream, sequence }: { readonly stream: string; readonly sequence: number },
): Promise<void> {
  if (sequence === 1) return;
  const archives = await tx.query<{ file: string; at: Date }>(select, [stream]);
  if (archives.length === 0) return;
  const when = archives.map(({ at }) => at.toISOString()).join(', ');
  const commands = [...new Set(archives.map(({ file }) => `npm run events -- restore ${file}`))].join(' && ');
  throw new ArchivedStreamError(
    `the events of ${stream} before sequence ${sequence} were archived (${when}); bring them back: ${commands}`,
  );
}

/** Streams whose beginning is not in the log but in a file: what reads the whole log would miss it. */
export async function archivedStreams(tx: Transaction): Promise<number> {
  const [row] = await tx.query<{ streams: number }>(count);
  return row?.streams ?? 0;
}
