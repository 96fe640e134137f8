import { UserActivated, UserDeactivated, UserRegistered } from '@starter/contracts';
import { givenEvents, openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateUserTables1760000000100 } from './create-user-tables.migration.js';
import { emailReservation } from './email-reservation.js';
import { userDirectory } from './user-directory.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateUserTables1760000000100]);
});
afterAll(() => database.close());

const registeredAt = new Date('2026-01-02T03:04:05.678Z');
const ada = { userId: '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5a', email: 'ada@example.com', name: 'Ada' };
const bob = { userId: '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5b', email: 'bob@example.com', name: 'Bob' };
const cyd = { userId: '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5c', email: 'ADA@example.com', name: 'Cyd' };
const registered = (user: typeof ada) => UserRegistered.of({ ...user, registeredAt });
const activated = ({ userId }: typeof ada) => UserActivated.of({ userId });
const deactivated = ({ userId }: typeof ada) => UserDeactivated.of({ userId, reason: 'gone' });
const row = ({ userId: user_id, email, name }: typeof ada) => ({ user_id, email, name, registered_at: registeredAt });

it('the user directory says who is registered, active and deactivated', () =>
  givenEvents([registered(ada), activated(ada), deactivated(ada)], [registered(bob), activated(bob)], [registered(cyd)])
    .project(userDirectory, database.dataSource)
    .thenRows(
      'user_directory',
      { ...row(ada), status: 'deactivated', version: 3 },
      { ...row(bob), status: 'active', version: 2 },
      { ...row(cyd), status: 'registered', version: 1 },
    ));

describe('the reservation of e-mail addresses', () => {
  it('holds the address of whoever is registered and frees it with the deactivation', () =>
    givenEvents([registered(ada), activated(ada), deactivated(ada)], [registered(bob)])
      .project(emailReservation, database.dataSource)
      .thenRows('email_reservation', { email: bob.email, user_id: bob.userId }));

  it('refuses an address that is taken, however it is written', () =>
    givenEvents([registered(ada)], [activated(bob), registered(cyd)])
      .project(emailReservation, database.dataSource)
      .thenRefused('the e-mail address is taken'));
});
