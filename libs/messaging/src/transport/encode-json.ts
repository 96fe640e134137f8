import { InvalidMessageError } from '../errors.js';
import type { Message } from '../message.js';

/**
 * The data as both brokers carry it. What JSON cannot express (undefined) reads as null everywhere.
 * @throws InvalidMessageError for a cycle or a bigint
 */
export function encodeJson({ id, type, data }: Message): Buffer {
  try {
    return Buffer.from(JSON.stringify(data) ?? 'null');
  } catch (error) {
    throw new InvalidMessageError(
      `the data of message ${id} (${type}) is not JSON (${(error as Error).message}): publish plain values`,
      { cause: error },
    );
  }
}
