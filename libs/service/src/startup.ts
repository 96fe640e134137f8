import { setTimeout as sleep } from 'node:timers/promises';
import { backoffDelay, errorText, isTransient, type Logger } from '@starter/messaging';

export interface Missing {
  /** Why the last attempt failed. */
  readonly problem: string;
  readonly since: string;
}

const pauses = { baseMs: 200, maxMs: 2_000 };
/** Between two lines about the same part: attempts go on, the log does not fill up. */
const linePauses = { baseMs: 1_000, maxMs: 60_000, jitter: 0 };

/**
 * What a service needs before it can begin. It waits for what comes up late for as long as that takes: the supervisor, who
 * asks the startup probe, knows better when to give up.
 */
export class Startup {
  private readonly ended = new AbortController();
  /** By part; `undefined` when it is there. */
  private readonly parts = new Map<string, Missing | undefined>();

  constructor(
    private readonly logger: Logger,
    private readonly pause = sleep,
  ) {}

  get missing(): ReadonlyMap<string, Missing> {
    return new Map([...this.parts].flatMap(([part, missing]) => (missing ? [[part, missing] as const] : [])));
  }

  get present(): readonly string[] {
    return [...this.parts].filter(([, missing]) => !missing).map(([part]) => part);
  }

  /**
   * Tries again until it succeeds.
   * @throws what waiting does not mend, such as refused credentials, at once
   */
  async waitFor<T>(part: string, connect: () => Promise<T>): Promise<T> {
    const begun = Date.now();
    const since = new Date(begun).toISOString();
    this.parts.set(part, { problem: 'it has not answered yet', since });
    for (let failures = 0, lines = 0, nextLine = 0; ;) {
      try {
        const resource = await connect();
        if (failures > 0) this.logger.info(`${part} is there`, { failures, waitedMs: Date.now() - begun });
        this.parts.set(part, undefined);
        return resource;
      } catch (error) {
        if (!isNotThereYet(error)) throw error;
        failures += 1;
        this.parts.set(part, { problem: errorText(error), since });
        if (Date.now() >= nextLine) {
          this.logger.warn(`waiting for ${part}`, { failures, since, error: errorText(error) });
          nextLine = Date.now() + backoffDelay(++lines, linePauses);
        }
        await this.pause(backoffDelay(failures, pauses), undefined, { signal: this.ended.signal });
      }
    }
  }

  /** Ends what still waits. */
  end(): void {
    this.ended.abort();
  }
}

function isNotThereYet(error: unknown): boolean {
  return isTransient(error) || isUnknownHost(error) || isUnknownHost((error as Error).cause);
}

/** It may be the name of a server whose container has not been started. */
function isUnknownHost(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ENOTFOUND';
}
