import { randomUUID } from 'node:crypto';

/** For queues, topics and groups that belong to one test. */
export const uniqueName = (prefix: string): string => `${prefix}-${randomUUID()}`;
