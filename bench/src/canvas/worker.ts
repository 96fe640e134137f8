import { defineCommand, defineEvent } from '@starter/contracts';
import { ActorModule, apply, CreateEventStore1760000000002, defineActor, handle, on } from '@starter/event-sourcing';
import { baseSettings, type ServiceDefinition } from '@starter/service';
import { z } from 'zod';

// The tasks of the benchmark in a service of the usual frame. They are trivial, and tell when anything came in another order.

const owner = 'canvas-worker';
const value = z.int();

export const Append = defineCommand('canvas.append', {
  version: 1,
  owner,
  schema: z.object({ number: value, digit: value }),
});
export const Total = defineCommand('canvas.total', {
  version: 1,
  owner,
  schema: z.object({ numbers: z.array(z.object({ value })) }),
});
export const Calculated = defineEvent('canvas.calculated', { version: 1, owner, schema: z.object({ value }) });

export const append = (number: number, digit: number): number => 10 * number + digit;

/** Each weighs as much as its place says. */
export const total = (numbers: readonly number[]): number =>
  numbers.reduce((sum, number, index) => sum + (index + 1) * number, 0);

/** Each command is an actor of its own: its event is stored, published and replied before anything goes on. */
const calculation = defineActor<number>('calculation', {
  initialState: 0,
  decide: on(
    handle(Append, ({ data: { number, digit } }) => [Calculated.of({ value: append(number, digit) })]),
    handle(Total, ({ data: { numbers } }) => [Calculated.of({ value: total(numbers.map((number) => number.value)) })]),
  ),
  evolve: on(apply(Calculated, (_, { data }) => data.value)),
});

export const worker: ServiceDefinition = {
  name: owner,
  description: 'Does the tasks of the canvas benchmark.',
  defaultPort: 0,
  settings: baseSettings,
  entities: [],
  migrations: [CreateEventStore1760000000002],
  contracts: { Append, Total },
  module: () => ActorModule.forFeature({ actors: [calculation] }),
};
