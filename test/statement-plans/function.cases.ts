import type { DataSource, EntityManager } from 'typeorm';
import { consumer, mayRead, uuid, yesterday } from './statement-case.js';
import type { StatementCase } from './statement-case.js';

/** A function of the source, called as its callers do. */
export interface FunctionCase extends Pick<StatementCase, 'when' | 'mayRead'> {
  readonly run: (top: Record<string, never>, dataSource: DataSource) => Promise<unknown>;
}

/** Cases of a function, or why it needs none. */
export type FunctionCases = Readonly<Record<string, string | readonly FunctionCase[]>>;

type Call = (...values: unknown[]) => Promise<unknown>;
type Made = new (...values: unknown[]) => Record<string, Call>;

const filters = {
  'all that are open': {},
  'of a consumer': { consumer },
  'of a consumer that has few': { consumer: 'rare' },
  'of a type': { type: 'type-3' },
  'of a rare type': { type: 'rare' },
  'of an error': { errorType: 'Error3' },
  'of a rare error': { errorType: 'Rare' },
  'of a key': { key: 'key-3' },
  'by their ids': { ids: ['m-13', 'm-23'] },
  'of a time': { since: new Date(yesterday) },
  'that wait': { status: 'scheduled' },
  'that were given up': { status: 'discarded' },
  'that were given up, of a consumer': { status: 'discarded', consumer },
  'that were given up, of a rare type': { status: 'discarded', type: 'rare' },
  'that were given up, of a key': { status: 'discarded', key: 'key-3' },
} as const;
const places = Object.entries(filters);
/** They are merged with the others in memory. */
const parked = mayRead(20_000, 'of ordered consumers it reads all that failed, at most 100,000 (maxParked) of each');
const matching = mayRead(Infinity, 'it counts all that match, for an operator');

async function drain(lines: AsyncIterable<unknown>, most: number): Promise<void> {
  let read = 0;
  for await (const _ of lines) if (++read >= most) return;
}

const privately = (top: Record<string, never>, options: object, method: string): Call =>
  ((top['DeadLetters'] as unknown as { prototype: Record<string, Call> }).prototype[method] as Call).bind({ options });

const workflows = async (top: Record<string, never>, dataSource: DataSource) => {
  const rows = dataSource.entityMetadatas.find(({ tableName }) => tableName === 'workflow_directory')!.target;
  return new (top['WorkflowQueries'] as unknown as Made)(dataSource.getRepository(rows), {});
};
const users = async (top: Record<string, never>, dataSource: DataSource) => {
  const rows = dataSource.entityMetadatas.find(({ tableName }) => tableName === 'user_directory')!.target;
  const personalData = { open: (texts: string[]) => Promise.resolve(texts) };
  return new (top['UserQueries'] as unknown as Made)(dataSource.getRepository(rows), {}, personalData);
};
type Page = { next?: string };

export const functionCases: FunctionCases = {
  listDeadLetters: [
    ...places.map(([when, filter]) => ({
      ...{ when, ...parked },
      run: (top: Record<string, never>, dataSource: DataSource) =>
        (top['listDeadLetters'] as unknown as Call)(dataSource, filter),
    })),
    {
      ...{ when: 'further on', ...parked },
      run: async (top, dataSource) => {
        const list = top['listDeadLetters'] as unknown as Call;
        const { next } = (await list(dataSource, {})) as Page;
        await list(dataSource, {}, { after: next });
      },
    },
    {
      when: 'with a text',
      run: (top, dataSource) => (top['listDeadLetters'] as unknown as Call)(dataSource, { text: 'm-77777' }),
      ...mayRead(Infinity, 'a text may be anywhere in the message'),
    },
  ],
  selectCandidates: places.map(([when, filter]) => ({
    ...{ when, ...parked },
    run: (top, { manager }: { manager: EntityManager }) =>
      (top['selectCandidates'] as unknown as Call)({ manager }, filter, {
        before: new Date(),
        onlyRedrivable: true,
        limit: 100,
      }),
  })),
  groupDeadLetters: [
    { ...matching, run: (top, dataSource) => (top['groupDeadLetters'] as unknown as Call)(dataSource, {}) },
  ],
  showDeadLetter: [
    { run: (top, dataSource) => (top['showDeadLetter'] as unknown as Call)(dataSource, 'm-3') },
    {
      when: 'of a consumer',
      run: (top, dataSource) => (top['showDeadLetter'] as unknown as Call)(dataSource, 'm-3', consumer),
    },
  ],
  deadLetterLines: [
    {
      ...parked,
      run: (top, dataSource) =>
        drain(
          (top['deadLetterLines'] as unknown as (...values: unknown[]) => AsyncIterable<unknown>)(dataSource, {}),
          300,
        ),
    },
  ],
  'DeadLetters.refuseUnknown': [
    {
      run: (top, dataSource) =>
        privately(top, { dataSource, service: 's' }, 'refuseUnknown')({ ids: ['m-13', 'm-23'] }),
    },
  ],
  'DeadLetters.count': [{ ...matching, run: (top, dataSource) => privately(top, { dataSource }, 'count')({}) }],
  'DeadLetters.now': 'it asks for the time',

  streamRows: 'its callers say what it reads: of a log or an archive all, for an operator',
  snapshotOfLog: 'it asks for a number',
  lastEventLines: [
    { run: (top, dataSource) => (top['lastEventLines'] as unknown as Call)(dataSource, 20) },
    {
      when: 'of a stream',
      run: (top, dataSource) => (top['lastEventLines'] as unknown as Call)(dataSource, 20, { stream: 'user-000003' }),
    },
  ],
  projectionStatus: 'it passes over the log, for an operator',
  'Rebuild.run': 'it passes over the log, for an operator',
  'Rebuild.switchIn': 'it writes one row',
  'ShadowTables.create': 'it reads the catalog',
  'ShadowTables.refuseOtherWrites': 'it reads the catalog',
  refuseObstacles: 'it reads the catalog',

  'WorkflowQueries.result': 'it reads a row by its primary key',
  'WorkflowQueries.outcome': [
    { run: async (top, dataSource) => (await workflows(top, dataSource))['outcome']!(uuid(3)) },
  ],
  'WorkflowQueries.newest': [
    { run: async (top, dataSource) => (await workflows(top, dataSource))['newest']!(20, {}) },
    {
      when: 'of a rare state',
      run: async (top, dataSource) => (await workflows(top, dataSource))['newest']!(20, { state: 'stuck' }),
    },
    {
      when: 'further on',
      run: async (top, dataSource) => {
        const queries = await workflows(top, dataSource);
        const { next } = (await queries['newest']!(20, { state: 'completed' })) as Page;
        await queries['newest']!(20, { state: 'completed', after: next });
      },
    },
  ],
  'UserQueries.byId': [{ run: async (top, dataSource) => (await users(top, dataSource))['byId']!(uuid(3)) }],
  'UserQueries.newest': [
    {
      run: async (top, dataSource) => {
        const queries = await users(top, dataSource);
        const { next } = (await queries['newest']!(20)) as Page;
        await queries['newest']!(20, next);
      },
    },
  ],
  withDatabase: 'it reads the catalog',
  withTasks: 'it reads the catalog',
};
