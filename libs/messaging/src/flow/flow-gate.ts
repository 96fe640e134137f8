import { FlowController, type FlowState } from './flow-controller.js';

export interface FlowOptions {
  /**
   * How loaded whatever the handlers need is, relative to its high mark: 1 is at the mark. Asked four times a second; fewer
   * deliveries are in hand while it is above, and more again when it is under 30 %. Default: never loaded.
   */
  readonly pressure?: () => number;
  /** Most bytes of messages in hand. A single message that is larger comes alone. Default 32 MiB. */
  readonly maxBytes?: number;
}

/** What a consumer has in hand, and how much it may have. */
export interface Flow {
  readonly state: FlowState;
  /** Most deliveries that may be in hand now: from 1 to what is configured. */
  readonly limit: number;
  /** Deliveries in hand. */
  readonly inFlight: number;
  /** Bytes of their messages. */
  readonly bytes: number;
}

const lookEveryMs = 250;

/**
 * Decides whether one more delivery may be taken in hand. The bounds in count and bytes are hard; within them the count goes by
 * the load. Not by the time that handlers take: a slow mail server is not helped by fewer letters at once, and what is in hand
 * is bounded anyway.
 */
export class FlowGate {
  /** Most bytes in hand. */
  readonly maxBytes: number;
  private readonly controller: FlowController;
  private readonly timer: NodeJS.Timeout;
  private count = 0;
  private size = 0;

  constructor({
    ceiling,
    pressure = () => 0,
    maxBytes = 32 * 1024 * 1024,
    load = () => 0,
    onLook,
  }: FlowOptions & {
    /** Most deliveries in hand. */
    readonly ceiling: number;
    /** What the consumer itself knows, as the pressure is given. */
    readonly load?: () => number;
    /** Called after each look at the load: the limit may be another one. */
    readonly onLook: () => void;
  }) {
    this.maxBytes = maxBytes;
    this.controller = new FlowController({ ceiling });
    this.timer = setInterval(() => {
      this.controller.observe(Math.max(load(), pressure()));
      onLook();
    }, lookEveryMs).unref();
  }

  get limit(): number {
    return this.controller.limit;
  }

  get flow(): Flow {
    return { state: this.controller.state, limit: this.limit, inFlight: this.count, bytes: this.size };
  }

  /** One more delivery of so many bytes. */
  mayTake(bytes: number): boolean {
    return this.count < this.limit && (this.count === 0 || this.size + bytes <= this.maxBytes);
  }

  begin(bytes: number): void {
    this.count += 1;
    this.size += bytes;
  }

  end(bytes: number): void {
    this.count -= 1;
    this.size -= bytes;
  }

  stop(): void {
    clearInterval(this.timer);
  }
}
