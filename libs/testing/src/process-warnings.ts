import { EventEmitter } from 'node:events';

/** Jest gives specs a copy of `process`, which hears of no warning; the modules of Node still know the real one. */
const nodeProcess = (): EventEmitter =>
  (EventEmitter.constructor as FunctionConstructor)('return process')() as EventEmitter;

/** Collects what Node warns of while `work` runs, such as listeners that add up. */
export async function warningsDuring(work: () => Promise<void>): Promise<string[]> {
  const warnings: string[] = [];
  const note = ({ message }: Error) => void warnings.push(message);
  const node = nodeProcess();
  node.on('warning', note);
  try {
    await work();
    // Node tells of a warning one turn after it has come up.
    await new Promise((resolve) => setImmediate(resolve));
    return warnings;
  } finally {
    node.off('warning', note);
  }
}
