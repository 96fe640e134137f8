import { HttpStatus, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { ProblemException, readCursor, writeCursor } from '@starter/service';
import { Repository } from 'typeorm';
import { UserRow } from './user.row.js';

export interface UserPage {
  readonly users: UserRow[];
  /** Pass it as `after` to read on; absent on the last page. */
  readonly next?: string;
}

@Injectable()
export class UserQueries {
  constructor(@InjectRepository(UserRow) private readonly users: Repository<UserRow>) {}

  async byId(id: string): Promise<UserRow> {
    const user = await this.users.findOneBy({ id });
    if (user) return user;
    const detail = `There is no user ${id}, or its registration has not arrived here yet; ask again in a moment.`;
    throw new ProblemException(HttpStatus.NOT_FOUND, detail);
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
