/** Printed, and set by TEST_SEED: a failing run can be repeated. */
export function testSeed(): number {
  const seed = Number(process.env['TEST_SEED'] ?? Date.now() % 1_000_000);
  console.info(`seed ${seed}; repeat with TEST_SEED=${seed}`);
  return seed;
}

/** Numbers from 0 to below 1 that are the same for the same seed (mulberry32). */
export function seededRandom(seed = testSeed()): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
