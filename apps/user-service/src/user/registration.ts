import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { RegisterUser } from '@starter/contracts';
import {
  inTransaction,
  Messaging,
  newMessageId,
  toMessage,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import { ProblemException } from '@starter/service';
import { createHash } from 'node:crypto';
import { reserveEmails } from './email-reservation.js';

export interface RegistrationRequest {
  readonly email: string;
  readonly name: string;
  readonly idempotencyKey?: string;
}

export interface Accepted {
  readonly userId: string;
  readonly commandId: string;
}

const remember: Statement = {
  name: 'registration-remember',
  text: `INSERT INTO registration_request (idempotency_key, fingerprint, user_id, command_id)
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING 1`,
};
const recall: Statement = {
  name: 'registration-recall',
  text: `SELECT fingerprint, user_id AS "userId", command_id AS "commandId"
           FROM registration_request WHERE idempotency_key = $1`,
};

/** Accepts a registration: once accepted, the command is in the outbox and will be handled. */
@Injectable()
export class Registration {
  constructor(@Inject(Messaging) private readonly messaging: Messaging) {}

  /** @throws ProblemException 409 when the address is taken, 422 when the key was used for another request */
  register(request: RegistrationRequest): Promise<Accepted> {
    const { dataSource, service: source, outbox } = this.messaging;
    const accepted = { userId: newMessageId(), commandId: newMessageId() };
    return inTransaction(dataSource, async (tx) => {
      const earlier = await this.earlierAnswer(tx, request, accepted);
      if (earlier) return earlier;
      const { email, name } = request;
      if (!(await reserveEmails(tx, [{ email, userId: accepted.userId }]))) {
        throw new ProblemException(HttpStatus.CONFLICT, 'The e-mail address is taken; use another one.');
      }
      const draft = RegisterUser.of({ userId: accepted.userId, email, name });
      const message = toMessage(draft, { id: accepted.commandId, source });
      await outbox.add(tx, [{ channel: 'command', address: RegisterUser.type, message }]);
      return accepted;
    });
  }

  private async earlierAnswer(
    tx: Transaction,
    { email, name, idempotencyKey }: RegistrationRequest,
    accepted: Accepted,
  ): Promise<Accepted | undefined> {
    if (idempotencyKey === undefined) return undefined;
    const fingerprint = createHash('sha256')
      .update(JSON.stringify([email, name]))
      .digest('hex');
    const values = [idempotencyKey, fingerprint, accepted.userId, accepted.commandId];
    if ((await tx.query(remember, values)).length === 1) return undefined;
    const [first] = await tx.query<Accepted & { fingerprint: string }>(recall, [idempotencyKey]);
    if (first?.fingerprint !== fingerprint) {
      const detail = 'This Idempotency-Key was used for another request; use a new key for each request.';
      throw new ProblemException(HttpStatus.UNPROCESSABLE_ENTITY, detail);
    }
    return { userId: first.userId, commandId: first.commandId };
  }
}
