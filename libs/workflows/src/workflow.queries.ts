import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { ActorRuntime } from '@starter/event-sourcing';
import { Messaging } from '@starter/messaging';
import { readCursor, writeCursor } from '@starter/service';
import { setTimeout as sleep } from 'node:timers/promises';
import { Repository } from 'typeorm';
import type { StartedWorkflow } from './engine/workflow.state.js';
import { FailedStarts, type FailedStart } from './failed-starts.js';
import { findWorkflow, notFound } from './read-workflow.js';
import { pageOfSteps, type StepsWanted } from './steps.view.js';
import { readWaiting } from './waiting.view.js';
import { WorkflowRow } from './workflow.row.js';
import {
  noProgress,
  progressOf,
  resultViewOf,
  viewOf,
  type WorkflowOutcome,
  type WorkflowProgress,
  type WorkflowResult,
  type WorkflowView,
} from './workflow.view.js';

export interface WorkflowPage {
  readonly workflows: WorkflowRow[];
  /** Pass it as `after` to read on; absent on the last page. */
  readonly next?: string;
}

/** How often whoever waits for a result looks: one row by its key. */
const pollMs = 250;

/** Nothing changes any more, or only when somebody does something. */
const rests: ReadonlySet<WorkflowRow['state']> = new Set(['completed', 'failed', 'stuck']);

@Injectable()
export class WorkflowQueries {
  constructor(
    @InjectRepository(WorkflowRow) private readonly workflows: Repository<WorkflowRow>,
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(FailedStarts) private readonly failedStarts: FailedStarts,
  ) {}

  /**
   * From its events as far as they are not in memory, and the timers of what it shows by their keys; why it has not started,
   * when a message that was to start it has failed.
   * @throws ProblemException 404
   */
  async byId(id: string, wanted: StepsWanted): Promise<WorkflowView | FailedStart> {
    const state = await this.read(id);
    if ('start' in state) return state;
    const page = pageOfSteps(state, wanted);
    return viewOf(state, page, await readWaiting(this.messaging.dataSource, state, page.requests));
  }

  /**
   * What came of a workflow, as soon as it is over or stuck; how it stands after `timeoutMs`, or when
   * the signal aborts, otherwise.
   * @throws ProblemException 404 when it has not started by then
   */
  async result(id: string, timeoutMs: number, signal: AbortSignal): Promise<WorkflowResult> {
    const deadline = performance.now() + timeoutMs;
    for (let looks = 1; ; looks += 1) {
      const row = await this.workflows.findOneBy({ id });
      const left = deadline - performance.now();
      // A start that failed before somebody asked is told at once.
      const isFailed = looks === 1 && !row && (await this.failedStarts.find(id)) !== undefined;
      if ((row && rests.has(row.state)) || isFailed || left <= 0 || signal.aborted) return this.resultNow(id);
      await sleep(Math.min(pollMs, left), undefined, { signal }).catch(() => undefined);
    }
  }

  /**
   * How far it has come.
   * @throws ProblemException 404
   */
  async progress(id: string): Promise<WorkflowProgress> {
    const outcome = await this.outcome(id);
    if (outcome) return outcome.progress;
    const state = await this.read(id);
    return 'start' in state ? noProgress(state) : progressOf(state);
  }

  private async resultNow(id: string): Promise<WorkflowResult> {
    const result = (await this.outcome(id))?.result;
    if (result) return result;
    const state = await this.read(id);
    return 'start' in state ? { id, state: state.state, reason: state.reason } : resultViewOf(state);
  }

  /** @throws ProblemException 404 */
  private async read(id: string): Promise<StartedWorkflow | FailedStart> {
    return (await findWorkflow(this.runtime, id)) ?? (await this.failedStarts.find(id)) ?? notFound(id);
  }

  /** Of one that is over: nobody has to read its events for that. */
  private async outcome(id: string): Promise<WorkflowOutcome | null | undefined> {
    return (await this.workflows.findOne({ select: { id: true, outcome: true }, where: { id } }))?.outcome;
  }

  /** Newest first. The cursor names the last row seen, so a page costs the same however far back it lies. */
  async newest(limit: number, filter: { readonly after?: string; readonly state?: string }): Promise<WorkflowPage> {
    const query = this.workflows
      .createQueryBuilder('workflow')
      .orderBy('workflow.startedAt', 'DESC')
      .addOrderBy('workflow.id', 'DESC')
      .take(limit + 1);
    if (filter.state !== undefined) query.andWhere('workflow.state = :state', { state: filter.state });
    if (filter.after !== undefined) {
      const [startedAt, id] = readCursor(filter.after);
      query.andWhere('(workflow.startedAt, workflow.id) < (:startedAt, :id)', { startedAt, id });
    }
    const rows = await query.getMany();
    const workflows = rows.slice(0, limit);
    const last = workflows.at(-1);
    return rows.length > limit && last ? { workflows, next: writeCursor(last.startedAt, last.id) } : { workflows };
  }
}
