import { HttpStatus } from '@nestjs/common';
import type { ActorRuntime } from '@starter/event-sourcing';
import { ProblemException } from '@starter/service';
import { workflowInstance } from './engine/workflow.decider.js';
import type { StartedWorkflow } from './engine/workflow.state.js';

/**
 * A workflow from its own events, so that it is never older than they are.
 * @throws ProblemException 404
 */
export async function readWorkflow(runtime: ActorRuntime, id: string): Promise<StartedWorkflow> {
  return (await findWorkflow(runtime, id)) ?? notFound(id);
}

export async function findWorkflow(runtime: ActorRuntime, id: string): Promise<StartedWorkflow | undefined> {
  const { state } = await runtime.read(workflowInstance, id);
  return state.status === 'new' ? undefined : state;
}

/** @throws ProblemException 404 */
export function notFound(id: string): never {
  const detail = `There is no workflow ${id}, or the command that starts it has not arrived yet; ask again in a moment.`;
  throw new ProblemException(HttpStatus.NOT_FOUND, detail);
}
