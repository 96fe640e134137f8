import { chain, chord, forEach, group, task, workflow, type Workflow } from '@starter/workflows';
import { z } from 'zod';
import { append, Append, Calculated, Total, total } from './worker.js';

/** What runs on both systems. */
export interface Load {
  readonly shape: 'chain' | 'group' | 'chord';
  readonly size: number;
  /** One run each; they give each run a result of its own. */
  readonly bases: readonly number[];
  /** Runs that have begun and have not ended, at most. */
  readonly outstanding: number;
}

type Kind = Pick<Load, 'shape' | 'size'>;

const input = z.object({ base: z.int(), digits: z.array(z.int()) });

/** The digits of a chain and of a group stand in the definition. */
export const inputOf = ({ shape, size }: Kind, base: number): z.input<typeof input> => ({
  base,
  digits: shape === 'chord' ? digitsOf({ shape, size }) : [],
});

/** The same as `canvas` in `bench/celery/driver.py`. */
export function workflowOf(kind: Kind): Workflow {
  return workflow(`canvas-${kind.shape}-${kind.size}`, { input }, ({ base, digits }) => {
    switch (kind.shape) {
      case 'chain': {
        const [first = 0, ...rest] = digitsOf(kind);
        let last = task(Append, { number: base, digit: first }).answering(Calculated);
        const steps = [last];
        for (const digit of rest) {
          last = task(Append, { number: last.result().value, digit }).answering(Calculated);
          steps.push(last);
        }
        return chain(...steps);
      }
      case 'group':
        return group(...digitsOf(kind).map((digit) => task(Append, { number: base, digit })));
      case 'chord':
        return chord(
          forEach(digits, (digit) => task(Append, { number: base, digit }).answering(Calculated)),
          (numbers) => task(Total, { numbers }),
        );
    }
  });
}

/** The numbers that a run has to come to, in their order. */
export function expectedOf(kind: Kind, base: number): number | number[] {
  const digits = digitsOf(kind);
  if (kind.shape === 'chain') return digits.reduce(append, base);
  const members = digits.map((digit) => append(base, digit));
  return kind.shape === 'group' ? members : total(members);
}

const digitsOf = ({ shape, size }: Kind): number[] =>
  Array.from({ length: size }, (_, index) => (shape === 'chain' ? index + 1 : index));
