import { BaseRpcContext } from '@nestjs/microservices';
import type { Message } from '../message.js';
import type { Delivery } from '../transport/delivery.js';

/** The second argument of a Nest handler: `@Ctx() context: DeliveryContext`. */
export class DeliveryContext extends BaseRpcContext<[Delivery]> {
  /** The whole envelope; the handler's first argument is its `data`. */
  get message(): Message {
    return this.args[0].message;
  }

  /** 1 for the first. */
  get attempt(): number {
    return this.args[0].attempt;
  }

  /** Name of the queue, or `topic[partition]@offset`. */
  get origin(): string {
    return this.args[0].origin;
  }
}
