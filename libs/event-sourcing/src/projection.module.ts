import { type DynamicModule, Inject, Module, type OnModuleInit } from '@nestjs/common';
import { Messaging, TerminalError } from '@starter/messaging';
import type { RecordedEvent } from './actor.js';
import type { Projection } from './projection.js';

const FEATURE = Symbol('ProjectionFeature');

/** Lets projections follow the service's own topic. */
@Module({})
export class ProjectionModule implements OnModuleInit {
  constructor(
    @Inject(FEATURE) private readonly projections: readonly Projection[],
    @Inject(Messaging) private readonly messaging: Messaging,
  ) {}

  static forFeature(projections: readonly Projection[]): DynamicModule {
    return { module: ProjectionModule, providers: [{ provide: FEATURE, useValue: projections }] };
  }

  onModuleInit(): void {
    for (const { name, handlers } of this.projections) {
      const events = this.messaging.inSequence(this.messaging.topic, `${this.messaging.service}.${name}`);
      for (const { definition, write } of handlers.values()) {
        events.on(definition, async ({ data, message }, tx) => {
          const { type, sequence = 0, time } = message;
          const event: RecordedEvent = { type, data, sequence, time: new Date(time) };
          const refusal = await write(tx, [event]);
          if (refusal) throw new TerminalError(`projection ${name} cannot refuse a stored event: ${refusal.rejected}`);
        });
      }
    }
  }
}
