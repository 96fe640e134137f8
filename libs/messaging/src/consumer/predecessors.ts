import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { Batches } from '../batches.js';
import { runStatement, type Statement } from '../database/transaction.js';
import { errorText, type Logger } from '../logger.js';

const enter: Statement = {
  name: 'process-enter',
  text: `INSERT INTO inbox_process (consumer, process) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
};
const leave: Statement = {
  name: 'process-leave',
  text: `DELETE FROM inbox_process WHERE consumer = $1 AND process = $2`,
};
const others: Statement = {
  name: 'process-others',
  text: `SELECT EXISTS (SELECT FROM inbox_process WHERE consumer = $1 AND process <> $2) AS others`,
};
const outlive: Statement = {
  name: 'process-outlive',
  text: `DELETE FROM inbox_process earlier USING inbox_process own
          WHERE own.consumer = $1 AND own.process = $2 AND earlier.consumer = $1 AND earlier.since < own.since`,
};

/** One name of a consumer may stand for several, of several topics. */
const thisProcess = randomUUID();

export interface PredecessorsOptions {
  readonly consumer: string;
  readonly dataSource: DataSource;
  readonly logger: Logger;
  /** Who has lived for so long does not die of what its predecessors had in hand. Default 60 000 ms. */
  readonly outlivesAfterMs?: number;
  /** UUID. Default: one for all consumers of this process. */
  readonly process?: string;
}

/**
 * Tells whether another process of this consumer may have been killed: each has a row for as long as it runs, and one that was
 * killed leaves its own behind. Processes that run beside this one look the same, which costs time and nothing else.
 */
export class Predecessors {
  private readonly asking: Batches<undefined, boolean>;
  private outliving: NodeJS.Timeout | undefined;

  constructor(private readonly options: PredecessorsOptions) {
    this.asking = new Batches(async (asked) => {
      const [row] = await this.run<{ others: boolean }>(others);
      return asked.map(() => row?.others ?? false);
    });
  }

  /** @throws DatabaseUnavailableError */
  async enter(): Promise<void> {
    await this.run(enter);
    const { outlivesAfterMs = 60_000 } = this.options;
    this.outliving = setTimeout(() => void this.tryRun(outlive), outlivesAfterMs).unref();
  }

  /** Whatever is delivered again from now on has killed nobody here. */
  async leave(): Promise<void> {
    clearTimeout(this.outliving);
    await this.tryRun(leave);
  }

  /** @throws DatabaseUnavailableError */
  mayHaveDied(): Promise<boolean> {
    return this.asking.call(undefined);
  }

  private run<Row extends object>(statement: Statement): Promise<(Row & Record<string, unknown>)[]> {
    const { dataSource, consumer, process = thisProcess } = this.options;
    return runStatement(dataSource, statement, [consumer, process]);
  }

  /** A row too many makes others look more closely than they need to. */
  private async tryRun(statement: Statement): Promise<void> {
    const { consumer, logger } = this.options;
    await this.run(statement).catch((error: unknown) =>
      logger.warn('which processes consume could not be written down', { consumer, error: errorText(error) }),
    );
  }
}
