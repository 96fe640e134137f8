import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { ActorRuntime } from '@starter/event-sourcing';
import { ProblemException, readCursor, writeCursor } from '@starter/service';
import { Repository } from 'typeorm';
import { workflowInstance } from './engine/workflow.decider.js';
import { WorkflowRow } from './workflow.row.js';
import { viewOf, type WorkflowView } from './workflow.view.js';

export interface WorkflowPage {
  readonly workflows: WorkflowRow[];
  /** Pass it as `after` to read on; absent on the last page. */
  readonly next?: string;
}

@Injectable()
export class WorkflowQueries {
  constructor(
    @InjectRepository(WorkflowRow) private readonly workflows: Repository<WorkflowRow>,
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
  ) {}

  /** From the workflow's own events, so it is never older than they are. */
  async byId(id: string): Promise<WorkflowView> {
    const { state } = await this.runtime.read(workflowInstance, id);
    if (state.status !== 'new') return viewOf(state);
    const detail = `There is no workflow ${id}, or the command that starts it has not arrived yet; ask again in a moment.`;
    throw new ProblemException(HttpStatus.NOT_FOUND, detail);
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
