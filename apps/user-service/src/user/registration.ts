import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { RegisterUser } from '@starter/contracts';
import { inTransaction, Messaging, newMessageId, toMessage } from '@starter/messaging';
import { earlierAnswer, ProblemException } from '@starter/service';
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

/** Accepts a registration: once accepted, the command is in the outbox and will be handled. */
@Injectable()
export class Registration {
  constructor(@Inject(Messaging) private readonly messaging: Messaging) {}

  /** @throws ProblemException 409 when the address is taken, 422 when the key was used for another request */
  register(request: RegistrationRequest): Promise<Accepted> {
    const { dataSource, service: source, outbox } = this.messaging;
    const accepted = { userId: newMessageId(), commandId: newMessageId() };
    return inTransaction(dataSource, async (tx) => {
      const { email, name, idempotencyKey: key } = request;
      const earlier = key === undefined ? undefined : await earlierAnswer(tx, key, [email, name], accepted);
      if (earlier) return earlier;
      if (!(await reserveEmails(tx, [{ email, userId: accepted.userId }]))) {
        throw new ProblemException(HttpStatus.CONFLICT, 'The e-mail address is taken; use another one.');
      }
      const draft = RegisterUser.of({ userId: accepted.userId, email, name });
      const message = toMessage(draft, { id: accepted.commandId, source });
      await outbox.add(tx, [{ channel: 'command', address: RegisterUser.type, message }]);
      return accepted;
    });
  }
}
