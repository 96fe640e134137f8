/** Of amqplib's connection, what its types do not tell: it reads frames from `rest`, as far as it has come. */
interface FrameReader {
  rest: Buffer;
  recvFrame(): unknown;
}

/** Stands in for headers that could not be read, and holds their bytes. */
export const unreadableHeaders = 'x-unreadable-headers';

const headerFrame = 2;
/** Type, channel and size; class, weight and the size of the body; then the flags of the properties. */
const [frameHeader, beforeFlags] = [7, 12];
const [hasContentType, hasContentEncoding, hasHeaders] = [1 << 15, 1 << 14, 1 << 13];

/**
 * A header table that is nested a few thousand times, or holds what the client does not know, ends the client's connection, and
 * the broker would deliver its message again and again: one message would keep the service from all others. Here it comes as a
 * message whose headers are bytes.
 */
export function keepFramesReadable(connection: unknown): void {
  const reader = connection as FrameReader;
  const receive = reader.recvFrame.bind(reader);
  reader.recvFrame = () => {
    const { rest } = reader;
    try {
      return receive();
    } catch (error) {
      const readable = withoutHeaders(rest);
      if (!readable) throw error;
      reader.rest = readable;
      return receive();
    }
  };
}

/** The same bytes, with the header table of the first frame in an entry of another; undefined when it has none. */
function withoutHeaders(bytes: Buffer): Buffer | undefined {
  if (bytes[0] !== headerFrame) return undefined;
  const size = bytes.readUInt32BE(3);
  const payload = bytes.subarray(frameHeader, frameHeader + size);
  const flags = payload.readUInt16BE(beforeFlags);
  if ((flags & hasHeaders) === 0) return undefined;
  let at = beforeFlags + 2;
  for (const before of [hasContentType, hasContentEncoding]) if (flags & before) at += 1 + payload.readUInt8(at);
  const end = at + 4 + payload.readUInt32BE(at);
  const table = tableOf(unreadableHeaders, payload.subarray(at + 4, end));
  if (payload.subarray(at, end).includes(unreadableHeaders)) return undefined;
  const rewritten = Buffer.concat([payload.subarray(0, at), table, payload.subarray(end)]);
  const head = Buffer.from(bytes.subarray(0, frameHeader));
  head.writeUInt32BE(rewritten.length, 3);
  return Buffer.concat([head, rewritten, bytes.subarray(frameHeader + size)]);
}

/** With one entry: bytes. */
function tableOf(name: string, value: Buffer): Buffer {
  const entry = Buffer.alloc(4 + 1 + name.length + 1 + 4);
  entry.writeUInt32BE(entry.length - 4 + value.length, 0);
  entry.writeUInt8(name.length, 4);
  entry.write(`${name}x`, 5, 'latin1');
  entry.writeUInt32BE(value.length, entry.length - 4);
  return Buffer.concat([entry, value]);
}
