import { type DynamicModule, Inject, Module, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import {
  keyOf,
  Messaging,
  ValidationError,
  type Message,
  type MessageDefinition,
  type PersonalData,
} from '@starter/messaging';
import type { Actor } from './actor.js';
import { ActorRuntime, outcomeOfExecution } from './actor-runtime.js';
import type { Projection } from './projection.js';

/** Provides the one {@link ActorRuntime} of a service. */
@Module({
  providers: [
    { provide: ActorRuntime, inject: [Messaging], useFactory: (messaging: Messaging) => new ActorRuntime(messaging) },
  ],
  exports: [ActorRuntime],
})
export class ActorRuntimeModule implements OnApplicationShutdown {
  constructor(@Inject(ActorRuntime) private readonly runtime: ActorRuntime) {}

  /** After Messaging, which has finished what was in hand before the application shuts down. */
  async onApplicationShutdown(): Promise<void> {
    await this.runtime.close();
  }
}

export interface ActorFeature {
  /** Actors whose commands come straight from the service's queue. */
  readonly actors: readonly Actor<unknown>[];
  /** A function gets what it needs to seal, open or erase personal data. */
  readonly inlineProjections?: readonly (Projection | ((personalData: PersonalData) => Projection))[];
  /** Routing keys of commands that do not arrive under their own type (replies). */
  readonly addresses?: Readonly<Record<string, string>>;
}

const FEATURE = Symbol('ActorFeature');

@Module({})
export class ActorModule implements OnModuleInit {
  constructor(
    @Inject(FEATURE) private readonly feature: ActorFeature,
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
  ) {}

  static forFeature(feature: ActorFeature): DynamicModule {
    return {
      module: ActorModule,
      imports: [ActorRuntimeModule],
      providers: [{ provide: FEATURE, useValue: feature }],
      exports: [ActorRuntimeModule],
    };
  }

  onModuleInit(): void {
    for (const inline of this.feature.inlineProjections ?? []) {
      const projection = typeof inline === 'function' ? inline(this.messaging.personalData) : inline;
      this.feature.actors.forEach((actor) => checkTypes(projection, actor));
      this.runtime.project(projection);
    }
    for (const actor of this.feature.actors) this.registerCommands(actor);
  }

  private registerCommands(actor: Actor<unknown>): void {
    const { commands, personalData } = this.messaging;
    for (const { definition } of actor.decide.values()) {
      commands.handle(
        definition,
        async ({ data, message }) => {
          const once = { consumer: commands.queue, messageId: message.id };
          const answers = { request: message };
          const id = idOf(definition, message, data);
          return outcomeOfExecution(
            await this.runtime.execute(actor, { id, command: { data, message }, once, answers }),
          );
        },
        {
          name: `the actor ${actor.name}`,
          routingKey: this.feature.addresses?.[definition.type] ?? definition.type,
          // Deciders have a time limit of their own, and the transaction is not the handler's.
          timeLimit: 'none',
          check: (message, data) => {
            idOf(definition, message, data);
            if (definition.personalTo !== undefined) personalData.check({ definition, data });
          },
        },
      );
    }
  }
}

/** @throws ValidationError when the command names no actor */
function idOf(definition: MessageDefinition, message: Message, data: unknown): string {
  const id = keyOf(definition, data) ?? message.subject;
  if (id !== undefined) return id;
  throw new ValidationError(`${message.type} names no actor; set the message's subject`);
}

/** @throws Error at the start rather than rows that lack something later on */
function checkTypes({ name, handlers, states }: Projection, { name: actor, evolve }: Actor<unknown>): void {
  if (states) return;
  const unknown = [...evolve.keys()].filter((type) => !handlers.has(type));
  if (unknown.length === 0) return;
  const what = `projection ${name} does not say what it does with ${unknown.join(', ')} of actor ${actor}`;
  throw new Error(`${what}; add project(…) or ignore(…) for it`);
}
