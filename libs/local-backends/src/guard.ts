import { spawn } from 'node:child_process';

// `read` returns when the pipe closes, which happens however our process ends.
const script = `
read -r nothing
kill -s "$2" -- "-$1" || exit 0
tries=0
while kill -s 0 -- "-$1" && [ $tries -lt 50 ]; do sleep 0.2; tries=$((tries + 1)); done
kill -s KILL -- "-$1"
if [ -n "$3" ]; then sleep 0.5; rm -rf -- "$3"; fi
`;

/**
 * Ends a process group, and removes `folder`, as soon as our own process is gone, be it by `kill -9`.
 * Returns what dismisses the guard.
 */
export function startGuard(group: number, stopSignal: 'SIGINT' | 'SIGTERM', folder: string | undefined): () => void {
  const signal = stopSignal.slice('SIG'.length);
  const guard = spawn('sh', ['-c', script, 'guard', String(group), signal, folder ?? ''], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  guard.once('error', () => {}); // The server is as good without it.
  guard.stdin.once('error', () => {});
  guard.unref();
  (guard.stdin as unknown as { unref(): void }).unref();
  return () => void guard.kill('SIGKILL');
}
