import type { DataSource } from 'typeorm';

/** Any number that only {@link alone} uses. */
const lockSpace = 4_728_114;

/**
 * Runs `work` unless the same `task` runs on this database already, in whichever process. A process that dies makes room.
 * @throws Error saying `refusal`
 */
export async function alone<T>(
  dataSource: DataSource,
  task: string,
  refusal: string,
  work: () => Promise<T>,
): Promise<T> {
  const guard = dataSource.createQueryRunner();
  const lock = [lockSpace, task];
  try {
    const [{ mine }] = (await guard.query(`SELECT pg_try_advisory_lock($1, hashtext($2)) AS mine`, lock)) as [
      { mine: boolean },
    ];
    if (!mine) throw new Error(refusal);
    try {
      return await work();
    } finally {
      await guard.query(`SELECT pg_advisory_unlock($1, hashtext($2))`, lock).catch(() => undefined);
    }
  } finally {
    await guard.release();
  }
}
