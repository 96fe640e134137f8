import kafkajs from 'kafkajs';
import { decompressFrame as decompressLz4 } from 'lz4-napi';
import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import { uncompress as decompressSnappy } from 'snappy';

type Decompress = (bytes: Buffer) => Promise<Buffer>;

interface Codec {
  compress(encoder: unknown): Promise<Buffer>;
  readonly decompress: Decompress;
}

/** A batch that would grow past this is refused: a few kilobytes could ask for gigabytes. */
const mostBytes = 256 * 1024 * 1024;

const names = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;

/** By the attributes of a batch. */
export const codecName = (attributes: number): string => names[attributes & 7] ?? `unknown (${attributes & 7})`;

const unzip = promisify(zlib.unzip);
const gzip: Decompress = (bytes) => unzip(bytes, { maxOutputLength: mostBytes });

/** The Java clients send blocks behind a header of 16 bytes, others one bare block. */
const javaSnappy = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0]);
const javaHeaderBytes = 16;

const snappy: Decompress = async (bytes) => {
  if (!bytes.subarray(0, javaSnappy.length).equals(javaSnappy)) return snappyBlock(bytes);
  const blocks: Buffer[] = [];
  for (let at = javaHeaderBytes; at < bytes.length;) {
    const start = at + 4;
    at = start + bytes.readInt32BE(at);
    blocks.push(await snappyBlock(bytes.subarray(start, at)));
  }
  return Buffer.concat(blocks);
};

const snappyBlock = (block: Buffer): Promise<Buffer> => decompressSnappy(block) as Promise<Buffer>;

// lz4 grows a batch by 255 at most, so the size of a batch bounds it.
const lz4: Decompress = (bytes) => decompressLz4(bytes);

const unzstd = promisify(zlib.zstdDecompress);
const zstd: Decompress = (bytes) => unzstd(bytes, { maxOutputLength: mostBytes });

/** By the names of Kafka's `compression.type`. */
export const decompress = { gzip, snappy, lz4, zstd } as const;

const codecs = [
  [kafkajs.CompressionTypes.GZIP, gzip],
  [kafkajs.CompressionTypes.Snappy, snappy],
  [kafkajs.CompressionTypes.LZ4, lz4],
  [kafkajs.CompressionTypes.ZSTD, zstd],
] as const;

/** kafkajs brings gzip only. What we send is not compressed. */
for (const [type, read] of codecs) {
  const before = kafkajs.CompressionCodecs[type] as () => Codec;
  kafkajs.CompressionCodecs[type] = (): Codec => ({
    compress: (encoder) => before().compress(encoder),
    decompress: read,
  });
}
