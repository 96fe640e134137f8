import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { VerifyUser } from '@starter/contracts';
import { ActorRuntime } from '@starter/event-sourcing';
import { inTransaction, Messaging, toMessage } from '@starter/messaging';
import { PersonalData } from '@starter/personal-data';
import { ProblemException } from '@starter/service';
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Accepted } from './registration.js';
import { user } from './user.decider.js';

/** Accepts verifications of e-mail addresses: once accepted, the command is in the outbox and will be handled. */
@Injectable()
export class Verification {
  constructor(
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(PersonalData) private readonly personalData: PersonalData,
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
  ) {}

  /** @throws ProblemException 404 for an unknown user, 403 for a wrong token, 409 for a user who was deactivated */
  async verify(userId: string, token: string): Promise<Accepted> {
    const { dataSource, service: source, outbox } = this.messaging;
    await this.check(userId, token);
    const message = toMessage(VerifyUser.of({ userId }), { source });
    await inTransaction(dataSource, (tx) =>
      outbox.add(tx, [{ channel: 'command', address: VerifyUser.type, message }]),
    );
    return { userId, commandId: message.id };
  }

  private async check(userId: string, token: string): Promise<void> {
    // From the user's own events: the e-mail may be read before the directory has followed.
    const { state } = await this.runtime.read(user, userId);
    const [expected = null] = 'email' in state ? await this.personalData.open([state.verificationToken]) : [];
    if (expected === null) {
      const detail = `There is no user ${userId}, or its registration has not arrived here yet; ask again in a moment.`;
      throw new ProblemException(HttpStatus.NOT_FOUND, detail);
    }
    if (!sameText(token, expected)) {
      throw new ProblemException(HttpStatus.FORBIDDEN, 'The token is wrong; use the one of the latest e-mail.');
    }
    if (state.status === 'deactivated') {
      const detail = 'The e-mail address was not verified in time, and the user is deactivated; register again.';
      throw new ProblemException(HttpStatus.CONFLICT, detail);
    }
  }
}

/** Takes the same time whatever differs. */
function sameText(one: string, other: string): boolean {
  const [left, right] = [one, other].map((text) => createHash('sha256').update(text).digest()) as [Buffer, Buffer];
  return timingSafeEqual(left, right);
}
