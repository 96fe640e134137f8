import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { EraseUser, RegisterUser } from '@starter/contracts';
import { inTransaction, Messaging, newMessageId, runStatement, toMessage, type Statement } from '@starter/messaging';
import { PersonalData } from '@starter/personal-data';
import { IdempotencyKeys, ProblemException } from '@starter/service';
import { randomBytes } from 'node:crypto';
import { claimEmail, normalised } from './email-reservation.js';

export interface RegistrationRequest {
  readonly email: string;
  readonly name: string;
  readonly idempotencyKey?: string;
}

export interface Accepted {
  readonly userId: string;
  readonly commandId: string;
}

const find: Statement = {
  name: 'user-directory-find',
  text: `SELECT FROM user_directory WHERE user_id = $1`,
};

/** Accepts registrations and erasures: once accepted, the command is in the outbox and will be handled. */
@Injectable()
export class Registration {
  constructor(
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(PersonalData) private readonly personalData: PersonalData,
    @Inject(IdempotencyKeys) private readonly keys: IdempotencyKeys,
  ) {}

  /** @throws ProblemException 409 when the address is taken, 422 when the key was used for another request */
  register(request: RegistrationRequest): Promise<Accepted> {
    const { dataSource, service: source, outbox } = this.messaging;
    const accepted = { userId: newMessageId(), commandId: newMessageId() };
    return inTransaction(dataSource, async (tx) => {
      const { email, name, idempotencyKey: key } = request;
      const earlier = key === undefined ? undefined : await this.keys.earlierAnswer(tx, key, { email, name }, accepted);
      if (earlier) return earlier;
      const fingerprint = this.personalData.fingerprint(normalised(email));
      if (!(await claimEmail(tx, { fingerprint, userId: accepted.userId }))) {
        throw new ProblemException(HttpStatus.CONFLICT, 'The e-mail address is taken; use another one.');
      }
      const verificationToken = randomBytes(24).toString('base64url');
      const draft = RegisterUser.of({ userId: accepted.userId, email, name, verificationToken });
      const plain = toMessage(draft, { id: accepted.commandId, source });
      // Sealed before it is stored: neither the outbox nor the broker ever sees who it is.
      const message = await this.personalData.sealMessage(tx, RegisterUser, plain);
      await outbox.add(tx, [{ channel: 'command', address: RegisterUser.type, message }]);
      return accepted;
    });
  }

  /** @throws ProblemException 404 when the directory does not know the user */
  async erase(userId: string): Promise<Accepted> {
    const { dataSource, service: source, outbox } = this.messaging;
    const message = toMessage(EraseUser.of({ userId }), { source });
    const [known] = await runStatement(dataSource, find, [userId]);
    if (!known) {
      const detail = `There is no user ${userId}, or its registration has not arrived here yet; ask again in a moment.`;
      throw new ProblemException(HttpStatus.NOT_FOUND, detail);
    }
    await inTransaction(dataSource, (tx) => outbox.add(tx, [{ channel: 'command', address: EraseUser.type, message }]));
    return { userId, commandId: message.id };
  }
}
