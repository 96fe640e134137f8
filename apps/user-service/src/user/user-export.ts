import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { ExportUsers } from '@starter/contracts';
import { inTransaction, Messaging, runStatement, toMessage, type DataOf, type Statement } from '@starter/messaging';
import { PersonalData } from '@starter/personal-data';
import { IdempotencyKeys, ProblemException } from '@starter/service';
import { Tasks, type TaskContext } from '@starter/tasks';

type Row = readonly [id: string, email: string, name: string, status: string, registeredAt: string];

export interface AcceptedExport {
  readonly taskId: string;
}

/** Where an attempt has come to; the next one goes on behind it. */
interface Reached {
  readonly after: string;
  readonly users: number;
}

const nobody = '00000000-0000-0000-0000-000000000000';
const perPart = 1_000;

const count: Statement = {
  name: 'user-export-count',
  text: `SELECT count(*)::int AS total FROM user_directory WHERE status = coalesce($1, status) AND status <> 'erased'`,
};
/** `$1` status or NULL, `$2` last user of the part before, `$3` export, `$4` how many users to look at. */
const copy: Statement = {
  name: 'user-export-copy',
  text: `WITH next AS (
           SELECT user_id, status = coalesce($1, status) AND status <> 'erased' AS wanted,
                  json_build_array(user_id, email, name, status, registered_at) AS row
             FROM user_directory WHERE user_id > $2::uuid ORDER BY user_id LIMIT $4),
         part AS (INSERT INTO user_export (export_id, after, users)
                  SELECT $3, $2::uuid::text, json_agg(row ORDER BY user_id) FROM next WHERE wanted HAVING count(*) > 0)
         SELECT (count(*) FILTER (WHERE wanted))::int AS users,
                (SELECT user_id FROM next ORDER BY user_id DESC LIMIT 1) AS after FROM next`,
};
const selectPart: Statement = {
  name: 'user-export-part',
  text: `SELECT after, users FROM user_export WHERE export_id = $1 AND after > $2 ORDER BY after LIMIT 1`,
};

/**
 * Exports the directory, a part per transaction with the place that it has come to: after a crash it goes on there, and nobody
 * is in it twice. Addresses and names stay sealed until somebody fetches them, so that it tells nothing of who is erased later.
 */
@Injectable()
export class UserExport {
  constructor(
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(PersonalData) private readonly personalData: PersonalData,
    @Inject(IdempotencyKeys) private readonly keys: IdempotencyKeys,
    @Inject(Tasks) private readonly tasks: Tasks,
  ) {}

  /** @throws ProblemException 422 when the Idempotency-Key was used for another request */
  request(data: DataOf<typeof ExportUsers>, idempotencyKey?: string): Promise<AcceptedExport> {
    const { dataSource, service: source, outbox } = this.messaging;
    const message = toMessage(ExportUsers.of(data), { source });
    const accepted: AcceptedExport = { taskId: message.id };
    return inTransaction(dataSource, async (tx) => {
      const asked = ['export', data];
      const earlier =
        idempotencyKey === undefined ? undefined : await this.keys.earlierAnswer(tx, idempotencyKey, asked, accepted);
      if (earlier) return earlier;
      await outbox.add(tx, [{ channel: 'command', address: message.type, message }]);
      return accepted;
    });
  }

  /**
   * The lines of an export that is complete.
   * @throws ProblemException 404 when there is none, 409 when it is not complete
   */
  async lines(id: string): Promise<AsyncIterable<string>> {
    const { state, name } = await this.tasks.find(id);
    if (name !== ExportUsers.type) {
      throw new ProblemException(
        HttpStatus.NOT_FOUND,
        `There is no export ${id}, or it has not begun; ask again in a moment.`,
      );
    }
    if (state !== 'SUCCESS') {
      throw new ProblemException(HttpStatus.CONFLICT, `The export is ${state}; see GET /tasks/${id}.`);
    }
    return this.read(id);
  }

  /** Goes on where the attempt before it has come to. */
  async export(context: TaskContext<typeof ExportUsers>): Promise<{ users: number }> {
    const { data, message, signal } = context;
    const status = data.status ?? null;
    let reached = (context.savedState as Reached | null) ?? { after: '', users: 0 };
    const [counted] = await runStatement<{ total: number }>(this.messaging.dataSource, count, [status]);
    for (;;) {
      signal.throwIfAborted();
      const { after, users } = reached;
      const copied = await context.inTransaction(async (tx) => {
        const values = [status, after || nobody, message.id, perPart];
        const [part] = await tx.query<{ users: number; after: string | null }>(copy, values);
        if (!part?.after) return undefined;
        const now: Reached = { after: part.after, users: users + part.users };
        await context.saveState(now, tx);
        return now;
      });
      if (!copied) return { users };
      reached = copied;
      context.progress(copied.users, Math.max(copied.users, counted?.total ?? 0));
    }
  }

  /** A part at a time: the whole may not fit into memory. */
  private async *read(id: string): AsyncGenerator<string> {
    const { dataSource } = this.messaging;
    yield 'id,email,name,status,registered at\n';
    for (let after = ''; ;) {
      const [part] = await runStatement<{ after: string; users: readonly Row[] }>(dataSource, selectPart, [id, after]);
      if (!part) return;
      after = part.after;
      const opened = await this.personalData.open(part.users.flatMap(([, email, name]) => [email, name]));
      yield (
        part.users
          .map(([userId, , , status, at], index) =>
            [userId, opened[2 * index] ?? '', opened[2 * index + 1] ?? '', status, at].map(field).join(),
          )
          .join('\n') + '\n'
      );
    }
  }
}

/** Quoted; a name that a spreadsheet would take for a formula is not one. */
const field = (text: string): string => `"${text.replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
