import { UserActivated, UserDeactivated, UserErased, UserRegistered, UserVerified } from '@starter/contracts';
import { projectAll } from '@starter/event-sourcing';
import { CreateMessagingTables1760000000001, inTransaction } from '@starter/messaging';
import { CreatePersonalKeys1760000000004, type PersonalData } from '@starter/personal-data';
import {
  givenEvents,
  openTestDataSource,
  personalDataOf,
  sealAs,
  sealedText,
  type TestDataSource,
} from '@starter/testing';
import { CreateUserTables1760000000100 } from './create-user-tables.migration.js';
import { emailReservation } from './email-reservation.js';
import { erasure } from './erasure.js';
import { userDirectory } from './user-directory.js';

type User = Record<'userId' | 'email' | 'name', string>;

let database: TestDataSource;
let personalData: PersonalData;
let ada: User;
let bob: User;
let cyd: User;
let dan: User;
beforeAll(async () => {
  database = await openTestDataSource([
    CreateMessagingTables1760000000001,
    CreatePersonalKeys1760000000004,
    CreateUserTables1760000000100,
  ]);
  personalData = personalDataOf('user-service', database.dataSource);
  ada = await sealed('018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5a', 'ada@example.com', 'Ada');
  bob = await sealed('018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5b', 'bob@example.com', 'Bob');
  cyd = await sealed('018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5c', 'ADA@example.com', 'Cyd');
  dan = await sealed('018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5d', 'dan@example.com', 'Dan');
});
afterAll(() => database.close());

const registeredAt = new Date('2026-01-02T03:04:05.678Z');
const sealed = async (userId: string, email: string, name: string) => {
  const texts = await sealAs(database.dataSource, { owner: 'user-service', subject: userId }, { email, name });
  return { userId, ...texts } as User;
};
const verificationToken = sealedText('token', 'verificationToken');
const registered = (user: User) => UserRegistered.of({ ...user, verificationToken, registeredAt });
const verified = ({ userId }: User) => UserVerified.of({ userId });
const activated = ({ userId }: User) => UserActivated.of({ userId });
const deactivated = ({ userId }: User) => UserDeactivated.of({ userId, reason: 'gone' });
const erased = ({ userId }: User) => UserErased.of({ userId });
const row = ({ userId: user_id, email, name }: User) => ({ user_id, email, name, registered_at: registeredAt });

it('the user directory says who is registered, verified, active, deactivated and erased', () =>
  givenEvents(
    [registered(ada), activated(ada), deactivated(ada)],
    [registered(bob), activated(bob), erased(bob)],
    [registered(cyd)],
    [registered(dan), verified(dan)],
  )
    .project(userDirectory, database.dataSource)
    .thenRows(
      'user_directory',
      { ...row(ada), status: 'deactivated', version: 3 },
      { ...row(bob), status: 'erased', version: 3 },
      { ...row(cyd), status: 'registered', version: 1 },
      { ...row(dan), status: 'verified', version: 2 },
    ));

describe('the reservation of e-mail addresses', () => {
  it('holds the address of whoever is registered and frees it with the deactivation or erasure', () =>
    givenEvents([registered(ada), activated(ada), deactivated(ada)], [registered(bob)], [registered(dan), erased(dan)])
      .project(emailReservation(personalData), database.dataSource)
      .thenRows('email_reservation', {
        fingerprint: personalData.fingerprint('bob@example.com'),
        user_id: bob.userId,
        claimed_until: null,
      }));

  it('refuses an address that is taken, however it is written', () =>
    givenEvents([registered(ada)], [activated(bob), registered(cyd)])
      .project(emailReservation(personalData), database.dataSource)
      .thenRefused('the e-mail address is taken'));
});

it('the erasure destroys the keys of whoever is erased, and no others', async () => {
  const event = { type: UserErased.type, data: { userId: bob.userId }, sequence: 2, time: new Date() };
  await inTransaction(database.dataSource, (tx) => projectAll(tx, [erasure(personalData)], [[event]]));
  expect(await personalData.open([ada, bob, cyd].map(({ name }) => name))).toEqual(['Ada', null, 'Cyd']);
});
