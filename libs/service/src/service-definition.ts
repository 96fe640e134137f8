import type { DynamicModule, Type } from '@nestjs/common';
import type { RetainedTable } from '@starter/messaging';
import type { DataSourceOptions } from 'typeorm';
import type { z } from 'zod';
import type { BaseSettings } from './configuration.js';

/** What makes a service; everything that services have in common is added when it is started. */
export interface ServiceDefinition<Settings extends BaseSettings = BaseSettings> {
  /** `user-service`: names its queue, its topic and the source of its messages. */
  readonly name: string;
  /** One sentence for the OpenAPI document. */
  readonly description: string;
  /** Used when PORT is not set. */
  readonly defaultPort: number;
  /** Largest request body, in bytes. Default 64 KiB. */
  readonly bodyLimit?: number;
  /** Environment variables: `baseSettings`, extended with what only this service reads. */
  readonly settings: z.ZodType<Settings>;
  readonly entities: Extract<NonNullable<DataSourceOptions['entities']>, readonly unknown[]>;
  /** Its own; those of the libraries are added. */
  readonly migrations: Extract<NonNullable<DataSourceOptions['migrations']>, readonly unknown[]>;
  /** Tables of its own whose old rows nobody needs. */
  readonly retained?: readonly RetainedTable[];
  /** The modules of its contracts: a command that it owns and does not handle is an error at the start. */
  readonly contracts: Readonly<Record<string, unknown>>;
  readonly module: (settings: Settings) => DynamicModule | Type;
}
