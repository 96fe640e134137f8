import {
  consumerOf,
  type Actor,
  type ActorFeature,
  type FollowedProjection,
  type Projection,
} from '@starter/event-sourcing';
import { Outbox } from '@starter/messaging';
import { PersonalData } from '@starter/personal-data';
import type { DataSource } from 'typeorm';

/** The code of a service that makes sense of what is in its database. Loaded when it is needed: most commands need none. */
export interface OperatedService {
  readonly actors: () => Promise<readonly Actor<unknown>[]>;
  readonly projections: (dataSource: DataSource) => Promise<readonly FollowedProjection[]>;
}

export const services: Readonly<Record<string, OperatedService>> = {
  'user-service': {
    actors: async () => [(await import('@starter/user-service')).user],
    projections: async (dataSource) =>
      followed('user-service', (await import('@starter/user-service')).projections, dataSource),
  },
  'email-service': {
    actors: async () => {
      const { campaign, emailDelivery } = await import('@starter/email-service');
      return [emailDelivery, campaign];
    },
    projections: () => Promise.resolve([]),
  },
  orchestrator: {
    actors: async () => [(await import('@starter/workflows')).workflowInstance],
    projections: async (dataSource) =>
      followed('orchestrator', (await import('@starter/workflows')).workflowProjections, dataSource),
  },
};

interface Projections {
  readonly inline: NonNullable<ActorFeature['inlineProjections']>;
  readonly following: readonly Projection[];
}

function followed(service: string, { inline, following }: Projections, dataSource: DataSource): FollowedProjection[] {
  // Without the master key: those that open personal data are looked at, and never run here.
  const personalData = new PersonalData({ service, dataSource, outbox: new Outbox() });
  return [
    ...inline.map((one) => ({ projection: 'useFactory' in one ? one.useFactory(personalData as never) : one })),
    ...following.map((projection) => ({ projection, consumer: consumerOf(service, projection) })),
  ];
}
