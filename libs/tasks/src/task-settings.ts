import { z } from 'zod';

/** Environment variables of a service that has tasks. */
export const taskSettings = {
  /** Tasks performed at the same time, those in workers of their own not counted. */
  TASK_CONCURRENCY: z.coerce.number().int().min(1).max(10_000).default(10),
};
