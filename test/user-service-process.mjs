import { connectRabbitMq, MemoryEventTransport } from '@starter/messaging';
import { readSettings, startService } from '@starter/service';
import { userService } from '@starter/user-service';

// One of the processes of task-kill.int.spec.ts: user-service with a real broker for its commands. It says that it is ready,
// and works until it is killed.
const [databaseUrl, rabbitMqUrl, personalDataKey] = process.argv.slice(2);
const environment = { DATABASE_URL: databaseUrl, PERSONAL_DATA_KEY: personalDataKey, PORT: '0', LOG_LEVEL: 'silent' };
await startService(userService, {
  settings: readSettings(userService.settings, environment),
  transports: { commands: await connectRabbitMq({ url: rabbitMqUrl }), events: new MemoryEventTransport() },
});
process.send('ready');
