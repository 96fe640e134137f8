import { type DynamicModule, Inject, Module, type OnModuleInit } from '@nestjs/common';
import { MetadataScanner, ModulesContainer } from '@nestjs/core';
import { DataSource } from 'typeorm';
import { Messaging, type MessagingOptions } from '../messaging.js';
import { declaredOn, type DeclaredHandler } from './handler-decorator.js';

/**
 * Makes {@link Messaging} injectable everywhere and ties it to the application's start and stop. `startService` does the rest; an
 * application of your own has to call `connectMessaging(app)` before `app.init()`.
 */
@Module({})
export class MessagingModule implements OnModuleInit {
  /** The decorated methods of controllers are registered. */
  connected = false;

  constructor(@Inject(ModulesContainer) private readonly modules: ModulesContainer) {}

  static forRoot(options: Omit<MessagingOptions, 'dataSource'>): DynamicModule {
    return {
      module: MessagingModule,
      global: true,
      providers: [
        {
          provide: Messaging,
          inject: [DataSource],
          useFactory: (dataSource: DataSource) => new Messaging({ ...options, dataSource }),
        },
      ],
      exports: [Messaging],
    };
  }

  /** @throws Error that names decorated methods which would never be called */
  onModuleInit(): void {
    const all = [...this.modules.values()];
    const controllers = all.flatMap((module) => [...module.controllers.values()].map(prototypeOf));
    const providers = all.flatMap((module) => [...module.providers.values()].map(prototypeOf));
    const others = new Set(providers.filter((prototype) => !controllers.includes(prototype)));
    refuse(
      [...others].flatMap(declaredBy),
      'of a class that is no controller',
      'list it under controllers of its module',
    );
    if (this.connected) return;
    refuse(
      [...new Set(controllers)].flatMap(declaredBy),
      'not connected',
      'await connectMessaging(app) before app.init()',
    );
  }
}

const prototypeOf = ({ instance }: { readonly instance: unknown }): object | null =>
  typeof instance === 'object' && instance !== null ? (Object.getPrototypeOf(instance) as object | null) : null;

function declaredBy(prototype: object | null): DeclaredHandler<unknown>[] {
  if (prototype === null || prototype === Object.prototype) return [];
  const methods = new MetadataScanner().getAllMethodNames(prototype);
  return methods.flatMap((name) => declaredOn((prototype as Record<string, unknown>)[name]) ?? []);
}

function refuse(handlers: readonly DeclaredHandler<unknown>[], what: string, remedy: string): void {
  if (handlers.length === 0) return;
  const places = handlers.map(({ place, type }) => `${place} (${type})`).join(', ');
  throw new Error(`these handlers are ${what}, and would never be called: ${places}; ${remedy}`);
}
