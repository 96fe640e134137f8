import type { Map } from 'immutable';

/** How many requests are open of those that were sent in a minute, by the minute since 1970: the oldest is found without a look at all of them. */
export type OpenRequests = Map<number, number>;

const minuteMs = 60_000;

export const openRequests = {
  sent: (open: OpenRequests, at: number): OpenRequests => open.update(minuteOf(at), 0, (count) => count + 1),

  closed(open: OpenRequests, at: number): OpenRequests {
    const left = open.get(minuteOf(at), 0) - 1;
    return left > 0 ? open.set(minuteOf(at), left) : open.delete(minuteOf(at));
  },

  /** The minute in which the oldest was sent; undefined when none is open. */
  oldest(open: OpenRequests): Date | undefined {
    const minute = open.keySeq().min();
    return minute === undefined ? undefined : new Date(minute * minuteMs);
  },
};

const minuteOf = (at: number): number => Math.floor(at / minuteMs);
