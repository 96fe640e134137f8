import { Column, Entity, PrimaryColumn } from 'typeorm';

export const workflowStates = ['running', 'completed', 'compensating', 'failed', 'stuck'] as const;

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

  /** When the state last changed. */
  @Column('timestamptz', { name: 'updated_at' })
  updatedAt: Date;
}
