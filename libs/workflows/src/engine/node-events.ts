import type { BranchTaken, DataOf, GroupStarted, NodeEnded, SubWorkflowStarted } from '@starter/contracts';
import { resultsOfMembers } from './values.js';
import { begun, counted, failed, type StartedWorkflow } from './workflow.state.js';

export const groupStarted = (
  state: StartedWorkflow,
  { path, size, items }: DataOf<typeof GroupStarted>,
): StartedWorkflow => {
  const group = { size, begun: 0, succeeded: 0, failed: 0, ...(items ? { items } : {}) };
  const spent = { ...state.spent, members: state.spent.members + size };
  const next = begun({ ...state, spent, groups: state.groups.set(path, group) }, path);
  return size > 0 ? { ...next, unfilled: next.unfilled.add(path) } : next;
};

export const branchTaken = (state: StartedWorkflow, { path, branch }: DataOf<typeof BranchTaken>): StartedWorkflow =>
  begun({ ...state, branches: state.branches.set(path, branch ?? null) }, path);

export const subWorkflowStarted = (
  state: StartedWorkflow,
  { path, input }: DataOf<typeof SubWorkflowStarted>,
): StartedWorkflow => begun({ ...state, inputs: state.inputs.set(path, input) }, path);

export function nodeEnded(state: StartedWorkflow, data: DataOf<typeof NodeEnded>): StartedWorkflow {
  const { path, outcome, reason = 'unknown' } = data;
  const next = begun(state, path);
  if (outcome === 'failed') return failed(next, path, reason);
  const ended = {
    ...next,
    ended: next.ended.set(path, outcome),
    unfilled: next.unfilled.delete(path),
    waiting: next.waiting.delete(path),
  };
  if (outcome === 'cancelled') return ended;
  // Put together once; whoever refers to it later finds it.
  const whole = state.groups.has(path)
    ? { ...ended, results: ended.results.set(path, resultsOfMembers(state, path)) }
    : ended;
  return counted(whole, path, 'succeeded');
}
