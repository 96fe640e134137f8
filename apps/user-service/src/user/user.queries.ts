import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Projections, streamId } from '@starter/event-sourcing';
import { ProblemException, readCursor, writeCursor } from '@starter/service';
import { Repository } from 'typeorm';
import { userDirectory } from './user-directory.js';
import { user } from './user.decider.js';
import { UserRow } from './user.row.js';

export interface UserPage {
  readonly users: UserRow[];
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
  ) {}

  /**
   * With `atLeastVersion` the answer contains that event of the user, however far behind the directory is.
   * @throws ProblemException 404; 503 when the event does not arrive in time
   */
  async byId(id: string, atLeastVersion = 0): Promise<UserRow> {
    const row = await this.users.findOneBy({ id });
    if (row && row.version >= atLeastVersion) return row;
    if (atLeastVersion > 0) {
      await this.await(id, atLeastVersion);
      return this.byId(id);
    }
    const detail = `There is no user ${id}, or its registration has not arrived here yet; ask again in a moment.`;
    throw new ProblemException(HttpStatus.NOT_FOUND, detail);
  }

  private async await(id: string, version: number): Promise<void> {
    if (await this.projections.waitFor(userDirectory, streamId(user, id), version, { timeoutMs })) return;
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
    const users = rows.slice(0, limit);
    const last = users.at(-1);
    return rows.length > limit && last ? { users, next: writeCursor(last.registeredAt, last.id) } : { users };
  }
}
