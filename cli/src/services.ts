import type { Actor } from '@starter/event-sourcing';

/** The code of a service that makes sense of what is in its database. Loaded when it is needed: most commands need none. */
export interface OperatedService {
  readonly actors: () => Promise<readonly Actor<unknown>[]>;
}

export const services: Readonly<Record<string, OperatedService>> = {
  'user-service': { actors: async () => [(await import('@starter/user-service')).user] },
  'email-service': { actors: async () => [(await import('@starter/email-service')).emailDelivery] },
  orchestrator: { actors: async () => [(await import('@starter/orchestrator')).workflowInstance] },
};
