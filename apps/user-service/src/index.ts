import * as contracts from '@starter/contracts';
import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import { CreatePersonalKeys1760000000004, PersonalDataModule } from '@starter/personal-data';
import { personalDataSettings, type ServiceDefinition } from '@starter/service';
import { CreateTaskTable1760000000005, taskSettings, TasksModule } from '@starter/tasks';
import type { z } from 'zod';
import { CreateUserTables1760000000100 } from './user/create-user-tables.migration.js';
import { projections, UserModule } from './user/user.module.js';
import { UserRow } from './user/user.row.js';

export { user } from './user/user.decider.js';
export { projections };

const settings = personalDataSettings.extend(taskSettings);

export const userService: ServiceDefinition<z.output<typeof settings>> = {
  name: 'user-service',
  description: 'Registers users and tells who they are.',
  defaultPort: 3001,
  settings,
  entities: [UserRow],
  migrations: [
    CreateEventStore1760000000002,
    CreatePersonalKeys1760000000004,
    CreateTaskTable1760000000005,
    CreateUserTables1760000000100,
  ],
  retained: [
    { table: 'user_export', column: 'written_at', retentionMs: 7 * 86_400_000 },
    { table: 'email_reservation', column: 'claimed_until', retentionMs: 0 },
  ],
  contracts,
  module: ({ PERSONAL_DATA_KEY, TASK_CONCURRENCY }) => ({
    module: UserModule,
    imports: [
      PersonalDataModule.forRoot({ masterKey: PERSONAL_DATA_KEY }),
      TasksModule.forRoot({ concurrency: TASK_CONCURRENCY }),
    ],
  }),
};
