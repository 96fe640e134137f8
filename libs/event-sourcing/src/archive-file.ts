import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';

/** What every event line begins with. */
const beginning = Buffer.from('{"stream_id":');
const newline = 0x0a;
const chunkSize = 65_536;

/**
 * Creates the file, or cuts off the half line at its end of somebody who was killed.
 * @throws Error when it holds something else than event lines
 */
export async function prepareArchive(path: string): Promise<void> {
  const handle = await open(path, 'a+');
  try {
    const head = Buffer.alloc(beginning.length);
    const { bytesRead } = await handle.read(head, 0, head.length, 0);
    if (!beginning.subarray(0, bytesRead).equals(head.subarray(0, bytesRead))) {
      throw new Error(`${path} is there already and is no archive of events; name another file`);
    }
    await handle.truncate(await endOfLines(handle));
    await handle.sync();
  } finally {
    await handle.close();
  }
  // Else the name may be lost with the power, and the events with it. Windows cannot do that, and need not.
  if (process.platform !== 'win32') await syncFolder(dirname(path));
}

/**
 * Resolves when the lines are on disk, and what was read back is what was written.
 * @throws Error when it is not
 */
export async function appendToArchive(path: string, lines: AsyncIterable<string>): Promise<void> {
  const start = (await stat(path)).size;
  const written = createHash('sha256');
  async function* bytes() {
    for await (const line of lines) {
      const text = Buffer.from(`${line}\n`);
      written.update(text);
      yield text;
    }
  }
  await pipeline(bytes, createWriteStream(path, { flags: 'a', flush: true }));
  const read = createHash('sha256');
  await pipeline(createReadStream(path, { start }), read);
  if (read.digest('hex') === written.digest('hex')) return;
  throw new Error(`${path} does not hold what was written to it; check the disk, and archive to another file`);
}

/** The position after the last newline. */
async function endOfLines(handle: FileHandle): Promise<number> {
  const chunk = Buffer.alloc(chunkSize);
  let end = (await handle.stat()).size;
  while (end > 0) {
    const start = Math.max(0, end - chunkSize);
    const { bytesRead } = await handle.read(chunk, 0, end - start, start);
    const last = chunk.subarray(0, bytesRead).lastIndexOf(newline);
    if (last >= 0) return start + last + 1;
    end = start;
  }
  return 0;
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
