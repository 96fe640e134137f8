import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import type { ServiceDefinition } from '@starter/service';
import { z } from 'zod';
import { CreateUserTables1760000000100 } from './user/create-user-tables.migration.js';
import { UserModule } from './user/user.module.js';
import { UserRow } from './user/user.row.js';

const settings = z.object({});

export const userService: ServiceDefinition<typeof settings> = {
  name: 'user-service',
  description: 'Registers users and tells who they are.',
  defaultPort: 3001,
  settings,
  entities: [UserRow],
  migrations: [CreateEventStore1760000000002, CreateUserTables1760000000100],
  module: () => UserModule,
};
