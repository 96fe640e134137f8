import {
  type DynamicModule,
  type FactoryProvider,
  Inject,
  type InjectionToken,
  Module,
  type OnApplicationShutdown,
  type OnModuleInit,
  type Provider,
} from '@nestjs/common';
import { keyOf, Messaging, ValidationError, type Message, type MessageDefinition } from '@starter/messaging';
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

/** A projection that needs what a module provides; the form that Nest knows from its factory providers. */
export interface ProjectionFactory {
  readonly inject: readonly InjectionToken[];
  readonly useFactory: (...dependencies: never[]) => Projection;
}

export interface ActorFeature {
  /** Actors whose commands come straight from the service's queue. */
  readonly actors: readonly Actor<unknown>[];
  readonly inlineProjections?: readonly (Projection | ProjectionFactory)[];
  /** Routing keys of commands that do not arrive under their own type (replies). */
  readonly addresses?: Readonly<Record<string, string>>;
}

const FEATURE = Symbol('ActorFeature');

/** Whose projections have got what they need. */
interface ReadyFeature extends ActorFeature {
  readonly inlineProjections?: readonly Projection[];
}

@Module({})
export class ActorModule implements OnModuleInit {
  constructor(
    @Inject(FEATURE) private readonly feature: ReadyFeature,
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
  ) {}

  static forFeature(feature: ActorFeature): DynamicModule {
    return {
      module: ActorModule,
      imports: [ActorRuntimeModule],
      providers: readyFeature(feature),
      exports: [ActorRuntimeModule],
    };
  }

  onModuleInit(): void {
    for (const projection of this.feature.inlineProjections ?? []) {
      this.feature.actors.forEach((actor) => checkTypes(projection, actor));
      this.runtime.project(projection);
    }
    for (const actor of this.feature.actors) this.registerCommands(actor);
  }

  private registerCommands(actor: Actor<unknown>): void {
    const { commands } = this.messaging;
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
            if (definition.personalTo !== undefined) this.messaging.sealing.check({ definition, data });
          },
        },
      );
    }
  }
}

function readyFeature(feature: ActorFeature): Provider[] {
  const each = (feature.inlineProjections ?? []).map((inline, index): FactoryProvider => {
    const provide = Symbol(`inline projection ${index}`);
    return 'useFactory' in inline
      ? {
          provide,
          inject: [...inline.inject],
          useFactory: inline.useFactory as (...dependencies: unknown[]) => Projection,
        }
      : { provide, useFactory: () => inline };
  });
  const ready = {
    provide: FEATURE,
    inject: each.map(({ provide }) => provide),
    useFactory: (...inlineProjections: Projection[]): ReadyFeature => ({ ...feature, inlineProjections }),
  };
  return [...each, ready];
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
