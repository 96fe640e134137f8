import type { Accepted } from './load.js';
import type { Random } from './random.js';
import type { System } from './system.js';

/** A workflow that a fault has started, and what must come of it. */
export interface ExpectedWorkflow {
  readonly id: string;
  readonly end: 'completed' | 'failed';
  /** Addresses; one e-mail each, as often as it stands here. */
  readonly mailsTo: readonly string[];
  /** Sealed addresses, as its last step must be told of them. */
  readonly order?: readonly string[];
}

export interface FaultContext {
  readonly system: System;
  readonly random: Random;
  /** Kills for this fault. */
  readonly kills: number;
  /** 1 in the long form; the short one waits less. */
  readonly scale: number;
  /** The users so far. */
  readonly accepted: readonly Accepted[];
  /** Where a fault says what it has started besides. */
  readonly workflows: ExpectedWorkflow[];
}

export interface Fault {
  readonly name: string;
  /** Its share of the kills of a run; 0 when it kills no service. */
  readonly killShare: number;
  /** Takes part in the short form. */
  readonly short?: true;
  /** Users that register at the same time. Default 2. */
  readonly clients?: number;
  /** Dead letters that it leaves. */
  readonly deadLetters?: number;
  /** While load runs; resolves when the fault is over. */
  inject(context: FaultContext): Promise<void>;
  /** What it leaves in place until the system has recovered. */
  cleanUp?(system: System): Promise<void>;
}
