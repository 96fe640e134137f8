import { UserRegistered, type RegisterUser } from '@starter/contracts';
import { projectAll } from '@starter/event-sourcing';
import {
  CreateMessagingTables1760000000001,
  inTransaction,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  RetentionJob,
  silentLogger,
  type DataOf,
} from '@starter/messaging';
import { CreatePersonalKeys1760000000004, PersonalData } from '@starter/personal-data';
import { IdempotencyKeys } from '@starter/service';
import { openTestDataSource, testPersonalDataKey, type TestDataSource } from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { userService } from '../index.js';
import { CreateUserTables1760000000100 } from './create-user-tables.migration.js';
import { emailReservation } from './email-reservation.js';
import { Registration, type Accepted } from './registration.js';

let database: TestDataSource;
let messaging: Messaging;
let personalData: PersonalData;
let registration: Registration;
beforeAll(async () => {
  database = await openTestDataSource([
    CreateMessagingTables1760000000001,
    CreatePersonalKeys1760000000004,
    CreateUserTables1760000000100,
  ]);
  messaging = new Messaging({
    ...{ service: 'user-service', dataSource: database.dataSource, logger: silentLogger, partitions: 1 },
    ...{ commands: new MemoryCommandTransport(), events: new MemoryEventTransport() },
  });
  personalData = PersonalData.join(messaging, { masterKey: testPersonalDataKey });
  registration = new Registration(messaging, personalData, new IdempotencyKeys(testPersonalDataKey));
});
afterAll(() => database.close());

const uniqueEmail = () => `${randomUUID()}@example.com`;
const register = (email: string) => registration.register({ email, name: 'Ada' });
const taken = { status: 409 };
const query = (text: string, values: unknown[] = []) => database.dataSource.query<object[]>(text, values);

/** Nobody has handled it in time. */
const outlast = ({ userId }: Accepted) =>
  query(`UPDATE email_reservation SET claimed_until = now() - interval '1 s' WHERE user_id = $1`, [userId]);

/** What handling the command does with the address. */
async function handle({ commandId }: Accepted) {
  const select = `SELECT message FROM outbox WHERE message ->> 'id' = $1`;
  const [row] = (await query(select, [commandId])) as { message: { data: DataOf<typeof RegisterUser> } }[];
  if (!row) throw new Error('the command is not in the outbox');
  const event = {
    ...{ type: UserRegistered.type, sequence: 1, time: new Date() },
    data: { ...row.message.data, registeredAt: new Date() },
  };
  return inTransaction(database.dataSource, (tx) => projectAll(tx, [emailReservation(personalData)], [[event]]));
}

it('answers 409 while a registration of the address is on its way, and once it is handled, however late', async () => {
  const email = uniqueEmail();
  const first = await register(email);
  await expect(register(email.toUpperCase())).rejects.toMatchObject(taken);
  await outlast(first);
  expect(await handle(first)).toBeUndefined();
  await expect(register(email)).rejects.toMatchObject(taken);
});

it('gives the address to the next one when a registration came to nothing', async () => {
  const email = uniqueEmail();
  const first = await register(email);
  await query(`DELETE FROM outbox WHERE message ->> 'id' = $1`, [first.commandId]);
  await outlast(first);
  const second = await register(email);
  await expect(register(email)).rejects.toMatchObject(taken);
  expect(await handle(second)).toBeUndefined();
});

it('gives the address to the one of two late registrations that is handled first, and to nobody else', async () => {
  const email = uniqueEmail();
  const first = await register(email);
  await outlast(first);
  const second = await register(email);
  expect(await handle(first)).toBeUndefined();
  expect(await handle(second)).toEqual({ rejected: 'the e-mail address is taken' });
  expect(
    await query('SELECT user_id FROM email_reservation WHERE user_id = ANY($1)', [
      [first, second].map(({ userId }) => userId),
    ]),
  ).toEqual([{ user_id: first.userId }]);
});

it('keeps no address of a registration that came to nothing', async () => {
  const [lost, registered, recent] = await Promise.all([uniqueEmail(), uniqueEmail(), uniqueEmail()].map(register));
  await Promise.all([outlast(lost!), outlast(registered!)]);
  await handle(registered!);
  const job = new RetentionJob(database.dataSource, userService.retained ?? [], silentLogger);
  await job.run();
  const kept = await query('SELECT user_id FROM email_reservation WHERE user_id = ANY($1)', [
    [lost, registered, recent].map((one) => one!.userId),
  ]);
  expect(new Set(kept)).toEqual(new Set([{ user_id: registered!.userId }, { user_id: recent!.userId }]));
});
