import { BranchTaken, GroupStarted, NodeEnded, SubWorkflowStarted } from '@starter/contracts';
import type { GroupPolicy, Json, WorkflowNode } from '../definition/definition.js';
import { durationMs } from '../definition/duration.js';
import { childPath, nodeAt, placeIn, rootPath } from '../definition/node-path.js';
import { BadReferenceError } from '../definition/reference.js';
import { refuseOverBudget } from './budget.js';
import { isUndone } from './compensations.js';
import { request } from './requests.js';
import { revokeOpen } from './revocations.js';
import type { Run } from './run.js';
import { branchFor, inputOf, itemsOf } from './values.js';
import { beginWait } from './waits.js';
import { nameOf, type Group } from './workflow.state.js';

/** Does what is on the agenda, until nothing is. A new kind of node says in `enter` what it starts with, and what follows its children. */
export function work(run: Run): void {
  for (let step = run.agenda.pop(); step; step = run.agenda.pop()) {
    if (step.do === 'enter') enter(run, step.path);
    else if (step.do === 'leave') leave(run, step.path);
    else failed(run, step.path, step.reason);
  }
}

function enter(run: Run, path: string): void {
  const node = nodeAt(run.state.definition, path);
  if (run.isFull && beginsWithEvent(node)) return run.setTimer({ kind: 'enter', path }, 0);
  try {
    refuseOverBudget(run, path);
    begin(run, path, node);
  } catch (error) {
    if (!(error instanceof BadReferenceError)) throw error;
    run.agenda.push({ do: 'fail', path, reason: error.message });
  }
}

/** Others cost no event of their own: it is the nodes in them that may have to wait for another transaction. */
const beginsWithEvent = (node: WorkflowNode): boolean =>
  (node.kind !== 'chain' && node.kind !== 'fallback') || node.timeout !== undefined;

function begin(run: Run, path: string, node: WorkflowNode): void {
  const { state, agenda, limits } = run;
  const { workflowId } = state;
  const { eventBytes } = limits;
  const child = (index: number) => agenda.push({ do: 'enter', path: childPath(path, index) });
  if (node.kind === 'task') return request(run, path, 'run', 1);
  if (node.kind !== 'sleep' && node.timeout !== undefined) {
    run.setTimer({ kind: 'deadline', path }, durationMs(node.timeout));
  }
  switch (node.kind) {
    case 'chain': {
      const first = path === rootPath ? (state.firstStep ?? 0) : 0;
      if (first < node.steps.length) child(first);
      else agenda.push({ do: 'leave', path });
      return;
    }
    case 'group':
      return beginGroup(run, path, node.members.length);
    case 'forEach': {
      const items = itemsOf(state, path, eventBytes);
      return beginGroup(run, path, items.length, items);
    }
    case 'when': {
      const branch = branchFor(state, path, eventBytes);
      run.emit(BranchTaken.of({ workflowId, path, ...(branch === undefined ? {} : { branch }) }));
      if (branch === undefined) agenda.push({ do: 'leave', path });
      else child(branch);
      return;
    }
    case 'fallback':
      child(0);
      return;
    case 'subWorkflow':
      run.emit(SubWorkflowStarted.of({ workflowId, path, input: inputOf(state, path, eventBytes) }));
      child(0);
      return;
    case 'sleep':
      return run.setTimer({ kind: 'sleep', path }, durationMs(node.duration));
    case 'waitForEvent':
      return beginWait(run, path, node);
  }
}

function beginGroup(run: Run, path: string, size: number, items?: Json[]): void {
  const { members } = run.limits;
  if (size > members) {
    const what = `${nameOf(run.state, path)}: ${size} members, and ${members} are allowed`;
    throw new BadReferenceError(`${what}; split them, or raise the limit`);
  }
  refuseOverBudget(run, path, { members: size });
  run.emit(GroupStarted.of({ workflowId: run.state.workflowId, path, size, ...(items ? { items } : {}) }));
  memberEnded(run, path);
}

/** A node has ended well: its parent goes on. */
function leave(run: Run, path: string): void {
  const { state, agenda } = run;
  const { workflowId, definition, ended } = state;
  const place = placeIn(path);
  const parent = place && nodeAt(definition, place.parent);
  if (!ended.has(path) && isRecorded(run, nodeAt(definition, path), parent)) {
    run.emit(NodeEnded.of({ workflowId, path, outcome: 'succeeded' }));
  }
  if (!place || !parent) {
    run.rootLeft = true;
    return;
  }
  switch (parent.kind) {
    case 'chain': {
      const next = place.index + 1;
      agenda.push(
        next < parent.steps.length
          ? { do: 'enter', path: childPath(place.parent, next) }
          : { do: 'leave', path: place.parent },
      );
      return;
    }
    case 'group':
    case 'forEach':
      return memberEnded(run, place.parent);
    case 'when':
    case 'fallback':
    case 'subWorkflow':
      agenda.push({ do: 'leave', path: place.parent });
      return;
    case 'task':
    case 'sleep':
    case 'waitForEvent':
      throw new Error(`${place.parent} is a ${parent.kind} and has no child ${path}`);
  }
}

/** See `NodeEnded`; the root must be known to have ended while there is something to undo. */
function isRecorded(run: Run, node: WorkflowNode, parent: WorkflowNode | undefined): boolean {
  if (node.kind === 'task') return !parent && !isUndone(run.state.compensations);
  if (node.kind === 'group' || node.kind === 'forEach' || node.kind === 'sleep' || node.timeout !== undefined)
    return true;
  return parent ? parent.kind === 'group' || parent.kind === 'forEach' : !isUndone(run.state.compensations);
}

/** A node has failed: what is under way in it is revoked, and its parent has failed as well, unless that one knows better. */
function failed(run: Run, path: string, reason: string): void {
  const { state, agenda } = run;
  const { workflowId, definition } = state;
  if (!state.ended.has(path)) run.emit(NodeEnded.of({ workflowId, path, outcome: 'failed', reason }));
  revokeOpen(run, path, reason);
  const place = placeIn(path);
  if (!place) return;
  const { parent, index } = place;
  const { kind } = nodeAt(definition, parent);
  if (kind === 'group' || kind === 'forEach') memberEnded(run, parent);
  else if (kind === 'fallback' && index === 0) agenda.push({ do: 'enter', path: childPath(parent, 1) });
  else agenda.push({ do: 'fail', path: parent, reason });
}

/** Decides on a group by what it has counted, however many members it has. */
function memberEnded(run: Run, path: string): void {
  const group = run.state.groups.get(path) as Group;
  const node = nodeAt(run.state.definition, path);
  if (node.kind !== 'group' && node.kind !== 'forEach') throw new Error(`${path} is a ${node.kind} and has no members`);
  const reason = failureOf(group, node.policy, nameOf(run.state, path));
  if (reason !== undefined) run.agenda.push({ do: 'fail', path, reason });
  else if (group.succeeded + group.failed === group.size) run.agenda.push({ do: 'leave', path });
}

/** Why a group cannot succeed any more; undefined while it can. */
function failureOf(
  { size, succeeded, failed: count, firstReason }: Group,
  policy: GroupPolicy,
  name: string,
): string | undefined {
  const others = count > 1 ? ` (${count} of ${size} members failed)` : '';
  if (policy === 'failFast') return count > 0 ? firstReason : undefined;
  if (policy === 'waitAll') return count > 0 && succeeded + count === size ? `${firstReason}${others}` : undefined;
  if (size - count >= policy.minSuccess) return undefined;
  const because = firstReason === undefined ? '' : `: ${firstReason}${others}`;
  return `${name} needs ${policy.minSuccess} of ${size} members to succeed${because}`;
}
