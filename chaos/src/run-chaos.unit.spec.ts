import type { Fault } from './fault.js';
import type { Progress } from './observation.js';
import { Campaign, completeness, recovery } from './run-chaos.js';
import type { System } from './system.js';

const settled: Progress = { active: 0, running: 0, outbox: 0, parked: 0, ready: 0, deadLetters: 0, lag: 0 };
const fault = (name: string, inject: Fault['inject'] = () => Promise.resolve()): Fault => {
  return { name, killShare: 0, clients: 0, inject };
};

function campaignOn(progress: () => Progress) {
  const system = { instances: [], instancesOf: () => [], mails: { onCaught: () => undefined } } as unknown as System;
  const lines: string[] = [];
  let asked = 0;
  const none = {
    directory: new Map(),
    workflows: new Map(),
    mails: [],
    mailCopies: 0,
    records: [],
    reported: new Map(),
  };
  const observer = {
    progress: () => {
      asked += 1;
      return Promise.resolve(progress());
    },
    effects: () => Promise.resolve(0),
    observe: () => {
      const streams = { 'user-service': [], 'email-service': [], orchestrator: [] };
      return Promise.resolve({ ...progress(), ...none, streams, timers: 0, waits: 0 });
    },
  };
  const options = {
    seed: 1,
    kills: 0,
    faults: [],
    scale: 1,
    givesUpAfterSeconds: 0.5,
    report: (line: string) => lines.push(line),
  };
  return { campaign: new Campaign(options, system, observer), lines, asked: () => asked };
}

it('calls a fault broken that breaks off, and goes on with the next', async () => {
  const { campaign, lines } = campaignOn(() => settled);
  const broken = await campaign.run(fault('first', () => Promise.reject(new Error('nothing was full'))));
  expect(broken.problems[completeness]).toEqual(['nothing was full']);
  expect(lines[0]).toContain('first: BROKEN');
  const next = await campaign.run(fault('second'));
  expect(Object.values(next.problems).flat()).toEqual([]);
});

it('blames a fault for what it leaves, and not the next one', async () => {
  let outbox = 3;
  const { campaign, lines, asked } = campaignOn(() => ({ ...settled, outbox, deadLetters: 1 }));
  const left = await campaign.run(fault('first'));
  expect(left.problems['back to base']).toEqual(['outbox: 3 left', '1 dead letters, 0 expected']);
  // It had waited in vain; the next one does not wait for the same.
  const askedBefore = asked();
  expect(askedBefore).toBeGreaterThan(1);
  const next = await campaign.run(fault('second'));
  expect(asked()).toBe(askedBefore + 1);
  expect(Object.values(next.problems).flat()).toEqual([]);
  expect(lines[1]).toContain('second (after a broken fault): held');
  // But for what comes on top.
  outbox = 4;
  const third = await campaign.run(fault('third'));
  expect(third.problems['back to base']).toEqual(['outbox: 4 left']);
  expect(third.problems[recovery]).toEqual([]);
});
