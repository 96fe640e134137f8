import { BadReferenceError } from '../definition/reference.js';
import type { Run } from './run.js';
import type { Spent } from './spent.js';
import { nameOf } from './workflow.state.js';

/**
 * Before a node begins: what a workflow may come to is refused as a failure of the node that would exceed it. What undoes
 * things is never refused.
 * @param more what the node adds
 * @throws BadReferenceError naming the place
 */
export function refuseOverBudget(
  { state: { spent, definition }, limits: { instance } }: Pick<Run, 'state' | 'limits'>,
  path: string,
  more: Partial<Spent> = {},
): void {
  for (const what of ['members', 'events', 'bytes'] as const) {
    const all = spent[what] + (more[what] ?? 0);
    if (all <= instance[what]) continue;
    const sum = what === 'bytes' ? `${all} bytes of events` : `${all} ${what}`;
    const problem = `${nameOf({ definition }, path)}: the workflow would have ${sum} in all`;
    throw new BadReferenceError(`${problem}, and ${instance[what]} are allowed; split it, or raise the limit`);
  }
}
