import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { workflowStates } from './engine/workflow.state.js';
import type { WorkflowOutcome } from './workflow.view.js';

/** What `GET /workflows` lists. */
@Entity('workflow_directory')
export class WorkflowRow {
  @PrimaryColumn('uuid', { name: 'workflow_id' })
  id: string;

  /** Of the workflow it is a run of. */
  @Column('text')
  name: string;

  @Column('text')
  state: (typeof workflowStates)[number];

  @Column('timestamptz', { name: 'started_at' })
  startedAt: Date;

  /** When the row last changed. */
  @Column('timestamptz', { name: 'updated_at' })
  updatedAt: Date;

  /** When it was over; null while it is under way or stuck. */
  @Column('timestamptz', { name: 'ended_at', nullable: true })
  endedAt: Date | null;

  /** The minute in which the oldest request was sent that nobody has answered. */
  @Column('timestamptz', { name: 'oldest_request_at', nullable: true })
  oldestRequestAt: Date | null;

  /** What came of one that is over, for whoever asks for no more than that; null while it is not. */
  @Column('jsonb', { nullable: true, select: false })
  outcome: WorkflowOutcome | null;
}
