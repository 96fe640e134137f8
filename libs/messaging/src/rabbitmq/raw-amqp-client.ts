import { connect, type ChannelModel } from 'amqplib';
import type { Socket } from 'node:net';

/** A header table as bytes go over the wire: names and values that no client library would write. */
export type RawTable = readonly (readonly [name: string, value: string | number | Buffer | RawTable])[];

export interface RawAmqpMessage {
  readonly messageId?: string | Buffer;
  readonly type?: string | Buffer;
  readonly appId?: string;
  readonly correlationId?: string;
  readonly replyTo?: string;
  readonly timestamp?: bigint;
  /** Or the bytes behind its length. */
  readonly headers?: RawTable | Buffer;
  readonly content: Buffer;
}

/** For specs. Writes the frames of a publication itself, so that it can send what others' clients send and ours refuses. */
export class RawAmqpClient {
  private constructor(
    private readonly connection: ChannelModel,
    private readonly stream: Socket,
    private readonly channel: number,
  ) {}

  static async open(url: string): Promise<RawAmqpClient> {
    const connection = await connect(url);
    // Neither stands in the types of the client.
    const { ch } = (await connection.createChannel()) as unknown as { readonly ch: number };
    const { stream } = connection.connection as unknown as { readonly stream: Socket };
    return new RawAmqpClient(connection, stream, ch);
  }

  publish(exchange: string, routingKey: string, message: RawAmqpMessage): void {
    const basicPublish = Buffer.concat([u16(60), u16(40), u16(0), short(exchange), short(routingKey), u8(0)]);
    this.stream.write(
      Buffer.concat([
        this.frame(1, basicPublish),
        this.frame(2, contentHeader(message)),
        ...chunks(message.content).map((chunk) => this.frame(3, chunk)),
      ]),
    );
  }

  async close(): Promise<void> {
    await this.connection.close();
  }

  private frame(type: number, payload: Buffer): Buffer {
    return Buffer.concat([u8(type), u16(this.channel), u32(payload.length), payload, u8(0xce)]);
  }
}

/** The broker's frames take 128 KiB. */
const chunkBytes = 100_000;
const chunks = (content: Buffer): Buffer[] =>
  Array.from({ length: Math.ceil(content.length / chunkBytes) }, (_, n) =>
    content.subarray(n * chunkBytes, (n + 1) * chunkBytes),
  );

function contentHeader({ content, ...properties }: RawAmqpMessage): Buffer {
  const { messageId, type, appId, correlationId, replyTo, timestamp, headers } = properties;
  // In the order of their flags.
  const fields: readonly [bit: number, value: Buffer | undefined][] = [
    [13, headers && (Buffer.isBuffer(headers) ? Buffer.concat([u32(headers.length), headers]) : table(headers))],
    [10, correlationId === undefined ? undefined : short(correlationId)],
    [9, replyTo === undefined ? undefined : short(replyTo)],
    [7, messageId === undefined ? undefined : short(messageId)],
    [6, timestamp === undefined ? undefined : u64(timestamp)],
    [5, type === undefined ? undefined : short(type)],
    [3, appId === undefined ? undefined : short(appId)],
  ];
  const given = fields.filter((field): field is [number, Buffer] => field[1] !== undefined);
  const flags = given.reduce((sum, [bit]) => sum | (1 << bit), 0);
  return Buffer.concat([u16(60), u16(0), u64(BigInt(content.length)), u16(flags), ...given.map(([, value]) => value)]);
}

/** The bytes of a table in a table in a table. */
export function nestedTable(levels: number): Buffer {
  const parts = Array.from({ length: levels }, (_, inside) => {
    const part = Buffer.from([1, 0x61, 0x46, 0, 0, 0, 0]);
    part.writeUInt32BE(inside * part.length, 3);
    return part;
  });
  return Buffer.concat(parts.reverse());
}

function table(entries: RawTable): Buffer {
  const body = Buffer.concat(entries.flatMap(([name, value]) => [short(name), field(value)]));
  return Buffer.concat([u32(body.length), body]);
}

function field(value: string | number | Buffer | RawTable): Buffer {
  if (typeof value === 'number') return Buffer.concat([Buffer.from('l'), i64(BigInt(value))]);
  if (Buffer.isBuffer(value)) return Buffer.concat([Buffer.from('x'), u32(value.length), value]);
  if (typeof value !== 'string') return Buffer.concat([Buffer.from('F'), table(value)]);
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from('S'), u32(bytes.length), bytes]);
}

function short(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u8(bytes.length), bytes]);
}

const u8 = (value: number): Buffer => Buffer.from([value]);
const written = (length: number, write: (buffer: Buffer) => void): Buffer => {
  const buffer = Buffer.alloc(length);
  write(buffer);
  return buffer;
};
const u16 = (value: number): Buffer => written(2, (buffer) => buffer.writeUInt16BE(value));
const u32 = (value: number): Buffer => written(4, (buffer) => buffer.writeUInt32BE(value));
const u64 = (value: bigint): Buffer => written(8, (buffer) => buffer.writeBigUInt64BE(value));
const i64 = (value: bigint): Buffer => written(8, (buffer) => buffer.writeBigInt64BE(value));
