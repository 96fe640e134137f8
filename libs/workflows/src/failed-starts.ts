import { Inject, Injectable } from '@nestjs/common';
import { StartWorkflow } from '@starter/contracts';
import { Messaging, runStatement, type Statement } from '@starter/messaging';
import { z } from 'zod';
import { workflowConsumer } from './workflow-events.js';
import { WorkflowRegistry } from './workflow-registry.js';
import { startedBy } from './workflow-starter.js';

/** What `GET /workflows/:id` answers for a workflow that was to be started by a message, and was not. */
export const failedStart = z.object({
  id: z.uuid(),
  state: z.literal('notStarted'),
  /** Why it was not. */
  reason: z.string(),
  start: z.object({
    /** Where the message is: it waits for an operator, is on its way again, or was refused. */
    status: z.enum(['dead-letter', 'scheduled', 'discarded']),
    service: z.string(),
    /** The queue or consumer group that could not take it. */
    consumer: z.string(),
    /** Of the message. */
    messageId: z.string(),
    type: z.string(),
    errorType: z.string(),
    /** How often it was tried since it was last redriven. */
    attempts: z.number(),
    since: z.iso.datetime(),
    /** What to do. */
    advice: z.string(),
  }),
});
export type FailedStart = z.output<typeof failedStart>;

interface Row extends Record<string, unknown> {
  readonly id: string;
  readonly consumer: string;
  readonly type: string;
  readonly status: 'open' | 'scheduled' | 'discarded';
  readonly errorType: string;
  readonly reason: string;
  readonly attempts: number;
  readonly since: Date;
  readonly redrivable: boolean;
}

interface Waiting extends Record<string, unknown> {
  readonly id: string;
  readonly consumer: string;
  readonly type: string;
  /** Of a `workflow.start`, as its data says. */
  readonly workflowId: string | null;
}

const columns = `id, consumer, type, status, error_type AS "errorType", reason, attempts, failed_at AS since, redrivable`;

// A `workflow.start` is about the workflow that it names, and another command starts a workflow of its own id.
const byKey: Statement = {
  name: 'workflow-start-failed',
  text: `SELECT ${columns} FROM dead_letters WHERE consumer = $1 AND key = $2 AND type = $3
         UNION ALL
         SELECT ${columns} FROM dead_letters WHERE consumer = $1 AND id = $2 AND type = ANY ($4::text[])`,
};
const byId: Statement = {
  name: 'workflow-start-failed-by-id',
  text: `SELECT ${columns} FROM dead_letters WHERE consumer = $1 AND id = $2`,
};

/** Of a consumer; more dead letters are not looked through: somebody has to look after them first. */
const mostLookedThrough = 1_000;

// Ids of workflows that follow from those of events, and commands of senders who name no subject. Each table in the order of one of
// its indexes: neither crowds out the other, and the planner has no reason to read all of it.
const waiting: Statement = {
  name: 'workflow-start-waiting',
  text: `SELECT found.* FROM unnest($1::text[]) AS known (name)
          CROSS JOIN LATERAL (
                (SELECT consumer, id, type, CASE WHEN type = $2 THEN message #>> '{data,workflowId}' END AS "workflowId"
                   FROM dead_letter WHERE consumer = known.name ORDER BY consumer, id LIMIT ${mostLookedThrough})
                UNION ALL
                (SELECT consumer, id, type, NULL FROM inbox_parked
                  WHERE consumer = known.name AND (failure IS NOT NULL OR redrives > 0)
                  ORDER BY consumer, id LIMIT ${mostLookedThrough})) AS found
          WHERE type = ANY ($3::text[])`,
};

/** Finds what became of messages that were to start a workflow. */
@Injectable()
export class FailedStarts {
  constructor(
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(WorkflowRegistry) private readonly registry: WorkflowRegistry,
  ) {}

  /** For a workflow that has not started; undefined when nothing is known of its start either. */
  async find(id: string): Promise<FailedStart | undefined> {
    const { dataSource, commands } = this.messaging;
    const starts = this.registry.workflows.flatMap((workflow) =>
      workflow.startsOn ? [{ workflow, startsOn: workflow.startsOn }] : [],
    );
    const types = [StartWorkflow.type, ...starts.map(({ startsOn }) => startsOn.type)];
    const consumers = [
      commands.queue,
      ...starts.flatMap(({ startsOn }) =>
        startsOn.kind === 'event' ? [workflowConsumer(this.messaging, startsOn.owner)] : [],
      ),
    ];
    const found = await runStatement<Row>(dataSource, byKey, [commands.queue, id, StartWorkflow.type, types]);
    if (found.length === 0) {
      const rows = await runStatement<Waiting>(dataSource, waiting, [
        [...new Set(consumers)],
        StartWorkflow.type,
        types,
      ]);
      const one = rows.find(
        ({ id: messageId, type, workflowId }) =>
          workflowId === id ||
          starts.some(
            ({ workflow, startsOn }) => startsOn.type === type && startedBy(workflow, { id: messageId }) === id,
          ),
      );
      if (one) found.push(...(await runStatement<Row>(dataSource, byId, [one.consumer, one.id])));
    }
    // It may have been refused once, and sent again.
    const [latest] = found.sort((one, other) => other.since.getTime() - one.since.getTime());
    return latest && this.view(id, latest);
  }

  private view(id: string, row: Row): FailedStart {
    const { id: messageId, consumer, type, status, errorType, reason, attempts, since } = row;
    const { service } = this.messaging;
    return {
      id,
      state: 'notStarted',
      reason,
      start: {
        status: status === 'open' ? 'dead-letter' : status,
        ...{ service, consumer, messageId, type, errorType, attempts },
        since: since.toISOString(),
        advice: adviceFor(row, service),
      },
    };
  }
}

function adviceFor({ id, status, redrivable }: Row, service: string): string {
  const command = `npm run dead-letters -- redrive ${id} --service ${service}`;
  if (status === 'scheduled') return 'It is on its way to its consumer again: ask again in a moment.';
  if (!redrivable) return 'It cannot be tried again as it is: mend what the reason says, and send it again.';
  if (status === 'discarded') {
    return `It was refused, and would be again: mend what the reason says, and send another, or try this one again with ${command} --discarded`;
  }
  return `It waits for an operator: mend what the reason says, then try it again with ${command}, or discard it.`;
}
