import { openTestDataSource, personalDataOf, testPersonalDataKey, type TestDataSource } from '@starter/testing';
import { randomBytes, randomUUID } from 'node:crypto';
import {
  CreateMessagingTables1760000000001,
  inTransaction,
  Outbox,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import { CreatePersonalKeys1760000000004 } from './create-personal-keys.migration.js';
import { PersonalData } from './personal-data.js';

const definition = { type: 'user.register', personal: ['email', 'name'], personalTo: 'userId' };
const migrations = [CreateMessagingTables1760000000001, CreatePersonalKeys1760000000004];

let database: TestDataSource;
let users: PersonalData;
beforeEach(async () => {
  database = await openTestDataSource(migrations);
  users = newProcess();
});
afterEach(() => database.close());

/** With an empty cache. */
const newProcess = (): PersonalData =>
  new PersonalData({
    service: 'user-service',
    dataSource: database.dataSource,
    outbox: new Outbox(),
    masterKey: testPersonalDataKey,
  });
interface User {
  readonly userId: string;
  readonly email: string;
  readonly name: string;
}
const somebody = (): User => ({ userId: randomUUID(), email: `${randomUUID()}@example.com`, name: 'Ada' });
const items = (data: readonly User[]) => data.map((it) => ({ definition, data: it }));
const sealIn = (tx: Transaction, data: readonly User[], by = users) =>
  by.seal(tx, items(data)) as Promise<(User | undefined)[]>;
const seal = (data: readonly User[], by = users) => inTransaction(database.dataSource, (tx) => sealIn(tx, data, by));
const sealOne = async (user: User): Promise<User> => (await seal([user]))[0] as User;
const erase = ({ userId }: User, by = users) => inTransaction(database.dataSource, (tx) => by.erase(tx, [userId]));
const openUser = ({ email, name }: User, by = users) => by.open([email, name]);

it('seals every personal field, and only opens with the key', async () => {
  const user = somebody();
  const sealed = await sealOne(user);
  expect(sealed.userId).toBe(user.userId);
  expect(JSON.stringify(sealed)).not.toMatch(/@example\.com|Ada/);
  expect(await openUser(sealed)).toEqual([user.email, user.name]);
  expect(await openUser(sealed, newProcess())).toEqual([user.email, user.name]);
  expect(await users.openData(definition, sealed)).toEqual(user);
  const rows: unknown = await database.dataSource.query('SELECT owner, subject, erased_at FROM personal_key');
  expect(rows).toEqual([{ owner: 'user-service', subject: user.userId, erased_at: null }]);
});

it('takes what is sealed already as it is, and refuses what was sealed for somebody else', async () => {
  const [ada, eve] = await seal([somebody(), somebody()]);
  expect(await seal([ada!])).toEqual([ada]);
  const mixed = { ...ada!, name: 'Ada' };
  expect(await openUser(await sealOne(mixed))).toEqual([(await openUser(ada!))[0], 'Ada']);
  await expect(seal([{ ...ada!, email: eve!.email }])).rejects.toThrow('sealed for somebody else');
  await expect(seal([{ ...somebody(), userId: 'a b' }])).rejects.toThrow('it names the subject');
});

it('has one key for each subject, however many processes seal at once', async () => {
  const users = Array.from({ length: 20 }, somebody);
  const sealed = await Promise.all(Array.from({ length: 8 }, () => seal(users, newProcess())));
  const rows = await database.dataSource.query<unknown[]>('SELECT FROM personal_key');
  expect(rows).toHaveLength(20);
  for (const user of sealed.flat()) expect((await openUser(user!, newProcess()))[1]).toBe('Ada');
  const told = await database.dataSource.query<unknown[]>('SELECT FROM outbox');
  expect(told).toHaveLength(20);
});

it('costs the same few statements however many subjects there are, and none when the keys are in memory', async () => {
  const batch = Array.from({ length: 50 }, somebody);
  const statementsOf = (data: readonly User[], by: PersonalData) =>
    inTransaction(database.dataSource, async (tx) => {
      const names: string[] = [];
      const query = (statement: Statement, values?: readonly unknown[]) => {
        names.push(statement.name);
        return tx.query(statement, values);
      };
      await sealIn({ ...tx, query } as Transaction, data, by);
      return names;
    });
  expect(await statementsOf(batch, users)).toEqual(['personal-key-create']);
  expect(await statementsOf(batch, users)).toEqual([]);
  expect(await statementsOf(batch, newProcess())).toEqual(['personal-key-create', 'personal-key-find']);
});

it('forgets a key that was rolled back', async () => {
  const user = somebody();
  const failed = inTransaction(database.dataSource, async (tx) => {
    await sealIn(tx, [user]);
    throw new Error('rolled back');
  });
  await expect(failed).rejects.toThrow('rolled back');
  expect(await openUser(await sealOne(user), newProcess())).toEqual([user.email, user.name]);
});

describe('erasure', () => {
  it('makes unreadable what was sealed, for every process, and what is sealed for others stays', async () => {
    const [ada, eve] = await seal([somebody(), somebody()]);
    const other = newProcess();
    await openUser(ada!, other);
    await erase(ada!);
    for (const process of [users, other, newProcess()]) {
      expect(await openUser(ada!, process)).toEqual([null, null]);
      expect(await process.openData(definition, ada)).toBeNull();
      expect((await openUser(eve!, process))[1]).toBe('Ada');
    }
  });

  it('is final: there is never another key', async () => {
    const user = somebody();
    await sealOne(user);
    await erase(user);
    await erase(user);
    for (const process of [users, newProcess()]) expect(await seal([user], process)).toEqual([undefined]);
    const [blank, fine] = await seal([user, somebody()]);
    expect(blank).toBeUndefined();
    expect(fine).toBeDefined();
    const message = inTransaction(database.dataSource, (tx) =>
      users.sealMessage(tx, definition, { data: user } as never),
    );
    await expect(message).rejects.toThrow(`the subject ${user.userId} was erased`);
    const never = somebody();
    await erase(never);
    expect(await seal([never])).toEqual([undefined]);
  });

  it('is undone together with its transaction', async () => {
    const sealed = await sealOne(somebody());
    const failed = inTransaction(database.dataSource, async (tx) => {
      await users.erase(tx, [sealed.userId]);
      throw new Error('rolled back');
    });
    await expect(failed).rejects.toThrow('rolled back');
    expect((await openUser(sealed))[1]).toBe('Ada');
  });
});

it('has fingerprints that tell equal texts without opening them', async () => {
  const [ada, copy] = await seal([somebody(), { ...somebody(), name: 'ADA' }]);
  const fingerprints = (...texts: string[]) =>
    inTransaction(database.dataSource, (tx) => newProcess().fingerprints(tx, texts, (text) => text.toLowerCase()));
  const [one, two, three] = await fingerprints(ada!.name, copy!.name, ada!.email);
  expect(one).toBe(two);
  expect(one).not.toBe(three);
  expect(one).toBe(users.fingerprint('ada'));
  await erase(ada!);
  expect(await fingerprints(ada!.name)).toEqual([undefined]);
});

describe('at another service', () => {
  let elsewhere: TestDataSource;
  let emails: PersonalData;
  beforeEach(async () => {
    elsewhere = await openTestDataSource(migrations);
    emails = personalDataOf('email-service', elsewhere.dataSource);
  });
  afterEach(() => elsewhere.close());

  const told = async () => {
    const rows = await database.dataSource.query<{ message: Parameters<typeof learn>[0] }[]>(
      'SELECT message FROM outbox ORDER BY position',
    );
    return rows.map(({ message }) => message);
  };
  const owner = 'user-service';
  const learn = async ({ type, data }: { type: string; data: { subject: string; wrappedKey: string } }) =>
    type === 'personal-data.key-created'
      ? emails.keys.learnCreated({ owner, ...data })
      : emails.keys.learnErased({ owner, ...data });

  it('opens with the key that it was told, and waits until it was', async () => {
    const user = somebody();
    const sealed = await sealOne(user);
    await expect(openUser(sealed, emails)).rejects.toThrow("follows: ['user-service']");
    emails.follow('user-service');
    await expect(openUser(sealed, emails)).rejects.toMatchObject({ name: 'TransientError' });
    for (const message of await told()) await learn(message);
    expect(await openUser(sealed, emails)).toEqual([user.email, user.name]);
  });

  it.each(['in order', 'the other way round', 'twice'])('is erased by what it was told, %s', async (order) => {
    emails.follow('user-service');
    const sealed = await sealOne(somebody());
    await erase(sealed);
    const messages = await told();
    expect(messages.map(({ type }) => type)).toEqual(['personal-data.key-created', 'personal-data.key-erased']);
    if (order === 'the other way round') messages.reverse();
    for (const message of order === 'twice' ? [...messages, ...messages] : messages) await learn(message);
    await Promise.all([...messages, ...messages].map(learn));
    expect(await openUser(sealed, emails)).toEqual([null, null]);
  });
});

it('says what is missing or wrong', async () => {
  const sealed = await sealOne(somebody());
  const { dataSource } = database;
  const keyless = new PersonalData({ service: 'user-service', dataSource, outbox: new Outbox() });
  await expect(seal([somebody()], keyless)).rejects.toThrow(
    'user-service seals or opens personal data; set PERSONAL_DATA_KEY',
  );
  const stranger = personalDataOf('user-service', dataSource, randomBytes(32).toString('base64'));
  await expect(openUser(sealed, stranger)).rejects.toThrow('set PERSONAL_DATA_KEY to that one');
  await expect(stranger.keys.check()).rejects.toThrow('set PERSONAL_DATA_KEY to that one');
  await users.keys.check();
  await expect(users.open(['Ada'])).rejects.toThrow('not sealed');
  await database.dataSource.query('DELETE FROM personal_key');
  await expect(openUser(sealed)).rejects.toThrow('restore the table personal_key');
});
