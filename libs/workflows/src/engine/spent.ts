import type { RecordedEvent } from '@starter/event-sourcing';
import type { Json } from '../definition/definition.js';
import { sizeOf } from '../definition/json-size.js';

/** What a workflow has come to so far. */
export interface Spent {
  /** Members of all groups that have begun, whether or not the members have. */
  readonly members: number;
  readonly events: number;
  /** Of the events' data as JSON. */
  readonly bytes: number;
}

export const nothingSpent: Spent = { members: 0, events: 0, bytes: 0 };

/** Members are counted by their groups. */
export const spentAfter = (spent: Spent, { data }: Pick<RecordedEvent, 'data'>): Spent => ({
  ...spent,
  events: spent.events + 1,
  bytes: spent.bytes + sizeOf(data as Json),
});
