import { Inject, Injectable, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { errorText, Messaging, runStatement, type MetricFamily, type Statement } from '@starter/messaging';
import { ServiceMetrics } from '@starter/service';
import { workflowStates } from './engine/workflow.state.js';

/** Counting more would cost the database more than the exact number is worth. */
const mostCounted = 100_000;
const sampleMs = 10_000;

interface Sampled extends Record<string, unknown> {
  readonly state: string;
  readonly count: number;
  readonly oldestSeconds: number;
}

// By indexes alone: `workflow_directory_state`, whose order keeps the planner from reading the whole table for a rare state, and the
// first entry of `workflow_directory_oldest_request`.
const sampled: Statement = {
  name: 'workflow-sample',
  text: `SELECT known.state, counted.count, oldest.seconds AS "oldestSeconds"
           FROM unnest($1::text[]) AS known (state)
          CROSS JOIN LATERAL (
                SELECT count(*)::int AS count
                  FROM (SELECT FROM workflow_directory AS one WHERE one.state = known.state
                         ORDER BY one.started_at DESC, one.workflow_id DESC LIMIT ${mostCounted}) AS front) AS counted
          CROSS JOIN (
                SELECT coalesce(extract(epoch FROM clock_timestamp() - min(oldest_request_at)), 0)::float8 AS seconds
                  FROM workflow_directory WHERE oldest_request_at IS NOT NULL) AS oldest`,
};

/** Asks the directory now and then how many workflows there are, and for how long one has waited for an answer: reading costs nothing. */
@Injectable()
export class WorkflowMetrics implements OnApplicationBootstrap, OnModuleDestroy {
  private latest: readonly Sampled[] = [];
  private timer: NodeJS.Timeout | undefined;

  constructor(
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(ServiceMetrics) metrics: ServiceMetrics,
  ) {
    metrics.add(() => this.families());
  }

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => void this.sample(), sampleMs).unref();
    void this.sample();
  }

  onModuleDestroy(): void {
    clearInterval(this.timer);
  }

  /** Never rejects: what could not be asked keeps its last value. */
  async sample(): Promise<void> {
    const { dataSource, logger } = this.messaging;
    try {
      this.latest = await runStatement<Sampled>(dataSource, sampled, [workflowStates]);
    } catch (error) {
      logger.warn('the database could not be asked how many workflows there are', { error: errorText(error) });
    }
  }

  private families(): MetricFamily[] {
    const [instances, oldest] = ['workflow_instances', 'workflow_oldest_request_seconds'] as const;
    return [
      {
        ...{ name: instances, type: 'gauge', help: 'Workflows by their state.' },
        samples: this.latest.map(({ state, count }) => ({ name: instances, labels: { state }, value: count })),
      },
      {
        ...{ name: oldest, type: 'gauge', help: 'How long the oldest request of a workflow has had no answer.' },
        samples: this.latest
          .slice(0, 1)
          .map(({ oldestSeconds }) => ({ name: oldest, labels: {}, value: Math.max(0, oldestSeconds) })),
      },
    ];
  }
}
