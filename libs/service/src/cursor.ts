import { HttpStatus } from '@nestjs/common';
import { z } from 'zod';
import { ProblemException } from './problem.js';

const cursor = z.tuple([z.iso.datetime(), z.uuid()]);

/** Names the last row of a page that is ordered by an instant and then by id. */
export const writeCursor = (at: Date, id: string): string =>
  Buffer.from(JSON.stringify([at.toISOString(), id])).toString('base64url');

/**
 * The instant (ISO 8601) and the id that a cursor names.
 * @throws ProblemException 400 when it was not made by `writeCursor`
 */
export function readCursor(text: string): [at: string, id: string] {
  try {
    return cursor.parse(JSON.parse(Buffer.from(text, 'base64url').toString()));
  } catch {
    const detail = 'The cursor is not one of ours; pass `next` of a page as `after`.';
    throw new ProblemException(HttpStatus.BAD_REQUEST, detail);
  }
}
