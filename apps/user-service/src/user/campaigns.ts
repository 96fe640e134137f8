import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { mostRecipients, StartCampaign } from '@starter/contracts';
import { inTransaction, Messaging, newMessageId, toMessage, type Statement } from '@starter/messaging';
import { IdempotencyKeys, ProblemException } from '@starter/service';

export interface CampaignRequest {
  readonly name: string;
  /** Only users who have registered since then. */
  readonly registeredFrom?: string;
  /** Only users who have registered before then. */
  readonly registeredUntil?: string;
  readonly idempotencyKey?: string;
}

export interface AcceptedCampaign {
  readonly campaignId: string;
  readonly commandId: string;
  readonly recipients: number;
}

/** Sealed as they are: nobody has to know who they are before the e-mails are sent. */
const select: Statement = {
  name: 'user-directory-recipients',
  text: `SELECT email AS "to", name FROM user_directory
          WHERE status = 'active' AND registered_at >= $1 AND registered_at < $2
          ORDER BY registered_at, user_id LIMIT ${mostRecipients + 1}`,
};

/** Accepts campaigns: one e-mail to each active user of a time. */
@Injectable()
export class Campaigns {
  constructor(
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(IdempotencyKeys) private readonly keys: IdempotencyKeys,
  ) {}

  /** @throws ProblemException 409 for too many recipients, or too long ones, or none, 422 when the key was used for another request */
  start({ name, registeredFrom, registeredUntil, idempotencyKey: key }: CampaignRequest): Promise<AcceptedCampaign> {
    const { dataSource, service: source, outbox } = this.messaging;
    return inTransaction(dataSource, async (tx) => {
      const period = [registeredFrom ?? '-infinity', registeredUntil ?? 'infinity'];
      const asked = [name, ...period];
      const given = key === undefined ? undefined : await this.keys.givenAnswer<AcceptedCampaign>(tx, key, asked);
      if (given) return given;
      const recipients = await tx.query<{ to: string; name: string }>(select, period);
      const accepted = { campaignId: newMessageId(), commandId: newMessageId(), recipients: recipients.length };
      const earlier = key === undefined ? undefined : await this.keys.earlierAnswer(tx, key, asked, accepted);
      if (earlier) return earlier;
      if (recipients.length === 0) throw conflict('There is no active user of that time; name another.');
      if (recipients.length > mostRecipients) {
        throw conflict(`There are more than ${mostRecipients} active users of that time; name a shorter one.`);
      }
      const draft = StartCampaign.of({ campaignId: accepted.campaignId, name, recipients });
      const message = toMessage(draft, { id: accepted.commandId, source });
      const { bytes, most } = outbox.sizeToPassOn(message);
      if (bytes > most) {
        throw conflict('The names and addresses of that time are too long for one campaign; name a shorter one.');
      }
      await outbox.add(tx, [{ channel: 'command', address: StartCampaign.type, message }]);
      return accepted;
    });
  }
}

const conflict = (detail: string): ProblemException => new ProblemException(HttpStatus.CONFLICT, detail);
