import { v5 as uuidv5 } from 'uuid';

const namespace = '5e0f3c0a-6b0e-4d5a-9f0c-3a1d2b7c8e91';

/** The same id for the same names, in every process and for ever; JSON keeps ['a', 'bc'] apart from ['ab', 'c']. */
export const derivedId = (...names: readonly (string | number)[]): string => uuidv5(JSON.stringify(names), namespace);

/** Id of the command that one attempt sends: however often it is decided, it is the same command. */
export const requestIdOf = (workflowId: string, path: string, purpose: 'run' | 'compensate', attempt: number): string =>
  derivedId('request', workflowId, path, purpose, attempt);
