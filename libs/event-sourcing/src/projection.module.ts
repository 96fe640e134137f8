import { type DynamicModule, Inject, Module, type OnModuleInit } from '@nestjs/common';
import { Messaging } from '@starter/messaging';
import type { Projection } from './projection.js';
import { Projections } from './projections.js';

/** Provides the one {@link Projections} of a service. */
@Module({
  providers: [
    { provide: Projections, inject: [Messaging], useFactory: (messaging: Messaging) => new Projections(messaging) },
  ],
  exports: [Projections],
})
export class ProjectionsModule {}

const FEATURE = Symbol('ProjectionFeature');

/** Lets projections follow the service's own topic. */
@Module({})
export class ProjectionModule implements OnModuleInit {
  constructor(
    @Inject(FEATURE) private readonly feature: readonly Projection[],
    @Inject(Projections) private readonly projections: Projections,
  ) {}

  static forFeature(projections: readonly Projection[]): DynamicModule {
    return {
      module: ProjectionModule,
      imports: [ProjectionsModule],
      providers: [{ provide: FEATURE, useValue: projections }],
      exports: [ProjectionsModule],
    };
  }

  onModuleInit(): void {
    for (const projection of this.feature) this.projections.follow(projection);
  }
}
