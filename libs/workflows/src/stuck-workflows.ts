import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { ActorRuntime, defineStateProjection, type StateChange } from '@starter/event-sourcing';
import { maskSealed, Messaging } from '@starter/messaging';
import { workflowInstance } from './engine/workflow.decider.js';
import type { WorkflowState } from './engine/workflow.state.js';

/** Tells in the log when a workflow becomes stuck: once, after the commit that says so, by the instance that has decided it. */
@Injectable()
export class StuckWorkflows implements OnModuleInit {
  constructor(
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
    @Inject(Messaging) private readonly messaging: Messaging,
  ) {}

  onModuleInit(): void {
    this.runtime.project(
      defineStateProjection('stuck-workflows', {
        tables: [],
        actor: workflowInstance,
        write: (tx, changes) => {
          const became = changes.filter(({ before, state }) => state.status === 'stuck' && before?.status !== 'stuck');
          if (became.length > 0) tx.afterCommit(() => became.forEach((change) => this.tell(change)));
          return Promise.resolve();
        },
      }),
    );
  }

  private tell({ state }: StateChange<WorkflowState>): void {
    if (state.status === 'new') return;
    const { workflowId: id, workflow, compensations, stuckBecause } = state;
    this.messaging.logger.warn('a workflow is stuck and waits for an operator: see POST /workflows/:id/unstick', {
      ...{ id, workflow, node: compensations.stuck.first(), nodes: compensations.stuck.size },
      reason: maskSealed(stuckBecause ?? 'unknown'),
    });
  }
}
