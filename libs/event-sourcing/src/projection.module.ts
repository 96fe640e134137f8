import { type DynamicModule, Inject, Module, type OnModuleInit } from '@nestjs/common';
import { Messaging, TerminalError, type Received } from '@starter/messaging';
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
        events.on(definition, async (received, tx) => {
          const refusal = await write(tx, received.map(recorded));
          if (refusal) throw new TerminalError(`projection ${name} cannot refuse a stored event: ${refusal.rejected}`);
        });
      }
    }
  }
}

const recorded = ({ data, message: { type, sequence = 0, time } }: Received): RecordedEvent => ({
  type,
  data,
  sequence,
  time: new Date(time),
});
