import { mkdir, writeFile } from 'node:fs/promises';
import { Session, type Profiler } from 'node:inspector/promises';
import { join } from 'node:path';

export interface Profile {
  readonly file: string;
  /** Functions that ran longest themselves, without what they called. */
  readonly hottest: readonly { readonly place: string; readonly percent: number }[];
}

const folder = join('data', 'bench');

/** Runs `work` under the CPU profiler and writes `data/bench/<name>.cpuprofile`, which Chrome's developer tools open. */
export async function profiled(name: string, work: () => Promise<void>): Promise<Profile> {
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.start');
    await work();
    const { profile } = await session.post('Profiler.stop');
    const file = join(folder, `${name}.cpuprofile`);
    await mkdir(folder, { recursive: true });
    await writeFile(file, JSON.stringify(profile));
    return { file, hottest: hottestOf(profile) };
  } finally {
    session.disconnect();
  }
}

function hottestOf({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile, most = 25): Profile['hottest'] {
  const placeOf = new Map(nodes.map(({ id, callFrame }) => [id, place(callFrame)]));
  const selfTime = new Map<string, number>();
  samples.forEach((id, index) => {
    const where = placeOf.get(id) ?? '?';
    selfTime.set(where, (selfTime.get(where) ?? 0) + (timeDeltas[index] ?? 0));
  });
  const total = [...selfTime.values()].reduce((sum, time) => sum + time, 0);
  return [...selfTime]
    .sort(([, one], [, other]) => other - one)
    .slice(0, most)
    .map(([where, time]) => ({ place: where, percent: (100 * time) / total }));
}

function place({ functionName, url, lineNumber }: Profiler.Profile['nodes'][number]['callFrame']): string {
  const file = url.replace(/^.*\/(node_modules|libs|bench)\//, '$1/').replace(/^file:\/\//, '');
  return `${functionName || '(anonymous)'}${file ? ` ${file}:${lineNumber + 1}` : ''}`;
}
