import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Projections, streamId } from '@starter/event-sourcing';
import { PersonalData } from '@starter/personal-data';
import { ProblemException, readCursor, writeCursor } from '@starter/service';
import { Repository } from 'typeorm';
import { userDirectory } from './user-directory.js';
import { user } from './user.decider.js';
import { UserRow } from './user.row.js';

/** A user as people see it; whoever was erased has neither address nor name. */
export interface User extends Omit<UserRow, 'email' | 'name'> {
  readonly email: string | null;
  readonly name: string | null;
}

export interface UserPage {
  readonly users: User[];
  /** Pass it as `after` to read on; absent on the last page. */
  readonly next?: string;
}

/** Longest wait for a version; callers and proxies give up at 30 s or more. */
const timeoutMs = 5_000;

@Injectable()
export class UserQueries {
  constructor(
    @InjectRepository(UserRow) private readonly users: Repository<UserRow>,
    @Inject(Projections) private readonly projections: Projections,
    @Inject(PersonalData) private readonly personalData: PersonalData,
  ) {}

  /**
   * With `atLeastVersion` the answer contains that event of the user, however far behind the directory is. The signal ends
   * the wait for it.
   * @throws ProblemException 404; 503 when the event does not arrive in time
   */
  async byId(id: string, atLeastVersion = 0, signal?: AbortSignal): Promise<User> {
    const row = await this.users.findOneBy({ id });
    const [user] = row && row.version >= atLeastVersion ? await this.opened([row]) : [];
    if (user) return user;
    if (atLeastVersion > 0) {
      await this.await(id, atLeastVersion, signal);
      return this.byId(id);
    }
    const detail = `There is no user ${id}, or its registration has not arrived here yet; ask again in a moment.`;
    throw new ProblemException(HttpStatus.NOT_FOUND, detail);
  }

  private async await(id: string, version: number, signal?: AbortSignal): Promise<void> {
    const options = { timeoutMs, ...(signal && { signal }) };
    if (await this.projections.waitFor(userDirectory, streamId(user, id), version, options)) return;
    const detail = `Version ${version} of user ${id} has not arrived here within ${timeoutMs / 1_000} s; ask again, or for an earlier one.`;
    throw new ProblemException(HttpStatus.SERVICE_UNAVAILABLE, detail, { retryAfter: 1 });
  }

  /** Newest first. The cursor names the last row seen, so a page costs the same however far back it lies. */
  async newest(limit: number, after?: string): Promise<UserPage> {
    const query = this.users
      .createQueryBuilder('user')
      .orderBy('user.registeredAt', 'DESC')
      .addOrderBy('user.id', 'DESC')
      .take(limit + 1);
    if (after !== undefined) {
      const [registeredAt, id] = readCursor(after);
      query.where('(user.registeredAt, user.id) < (:registeredAt, :id)', { registeredAt, id });
    }
    const rows = await query.getMany();
    const last = rows.slice(0, limit).at(-1);
    const users = await this.opened(rows.slice(0, limit));
    return rows.length > limit && last ? { users, next: writeCursor(last.registeredAt, last.id) } : { users };
  }
  /** The key counts and not the row, which may say a moment longer what the user was before. */
  private async opened(rows: readonly UserRow[]): Promise<User[]> {
    const texts = await this.personalData.open(rows.flatMap(({ email, name }) => [email, name]));
    return rows.map((row, index): User => {
      const [email = null, name = null] = texts.slice(2 * index);
      return email === null ? { ...row, email, name: null, status: 'erased' } : { ...row, email, name };
    });
  }
}
