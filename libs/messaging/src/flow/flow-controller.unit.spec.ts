import { testSeed } from '@starter/testing';
import fc from 'fast-check';
import { FlowController } from './flow-controller.js';

const bounds = fc
  .record({ floor: fc.integer({ min: 1, max: 50 }), room: fc.integer({ min: 0, max: 10_000 }) })
  .map(({ floor, room }) => ({ floor, ceiling: floor + room }));
/** More than any limit takes from one bound to the other: 10 050 halved, or 1 raised by half. */
const longest = 30;

const check = (property: fc.IProperty<never> | fc.IProperty<unknown>) =>
  fc.assert(property as fc.IProperty<unknown>, { seed: testSeed(), numRuns: 500 });

it('halves above the high mark, grows by half under 30 %, and leaves the rest as it is', () => {
  const controller = new FlowController({ ceiling: 100 });
  const steps = [1.01, 0.3, 1, 0.29, 0.29, 0.29].map((load) => [controller.observe(load), controller.limit]);
  expect(steps).toEqual([
    ['slow_down', 50],
    ['normal', 50],
    ['normal', 50],
    ['speed_up', 75],
    ['speed_up', 100],
    ['normal', 100],
  ]);
});

it('stays between floor and ceiling, whatever the load', () => {
  check(
    fc.property(bounds, fc.array(fc.double({ min: -1, max: 1e9 })), ({ floor, ceiling }, loads) => {
      const controller = new FlowController({ floor, ceiling });
      for (const load of loads) {
        controller.observe(load);
        expect(Number.isInteger(controller.limit)).toBe(true);
        expect(controller.limit).toBeGreaterThanOrEqual(floor);
        expect(controller.limit).toBeLessThanOrEqual(ceiling);
      }
    }),
  );
});

it('comes to rest under a load that goes with the limit, and never turns back on the way', () => {
  const perUnit = fc.double({ min: 1e-6, max: 10, noNaN: true });
  check(
    fc.property(bounds, perUnit, fc.double({ min: 0, max: 1, noNaN: true }), ({ floor, ceiling }, load, start) => {
      // Where one more or less is half of everything, no whole number may be right.
      fc.pre(load * floor <= 1);
      const controller = new FlowController({ floor, ceiling, initial: floor + start * (ceiling - floor) });
      const states = Array.from({ length: longest }, () => controller.observe(load * controller.limit));
      expect(new Set(states.filter((state) => state !== 'normal')).size).toBeLessThanOrEqual(1);
      expect(states.at(-1)).toBe('normal');
    }),
  );
});

it('is at its floor after a while of overload, and at its ceiling after a while of rest', () => {
  check(
    fc.property(bounds, ({ floor, ceiling }) => {
      const controller = new FlowController({ floor, ceiling });
      for (let step = 0; step < longest; step += 1) controller.observe(7);
      expect([controller.state, controller.limit]).toEqual(['slow_down', floor]);
      for (let step = 0; step < longest; step += 1) controller.observe(0);
      expect([controller.state, controller.limit]).toEqual(['normal', ceiling]);
    }),
  );
});
