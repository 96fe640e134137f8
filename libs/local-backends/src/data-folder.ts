import { chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { User } from './unprivileged-user.js';

/** The folder of one server: its data, its configuration, its log. */
export class DataFolder {
  private constructor(
    readonly path: string,
    readonly temporary: boolean,
    readonly user: User | undefined,
  ) {}

  /** `<dataDir>/<name>`, or a new temporary folder; it belongs to `user`. */
  static async open(name: string, dataDir: string | undefined, user: User | undefined): Promise<DataFolder> {
    const path =
      dataDir === undefined ? await mkdtemp(join(tmpdir(), `starter-${name}-`)) : join(resolve(dataDir), name);
    await mkdir(dirname(path), { recursive: true });
    await mkdir(path, { recursive: true, mode: 0o700 });
    const folder = new DataFolder(path, dataDir === undefined, user);
    await folder.handOver(path);
    return folder;
  }

  /** Writes a file that only the server's user may read; returns its path. */
  async write(name: string, content: string): Promise<string> {
    const path = this.file(name);
    await writeFile(path, content, { mode: 0o600 });
    await this.handOver(path);
    return path;
  }

  /** Copies a file, so that the server's user may read it; returns the path of the copy. */
  async copy(name: string, from: string): Promise<string> {
    return this.write(name, readFileSync(from, 'utf8'));
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** A descriptor for the server's output; the caller closes it. */
  withLog<Result>(use: (descriptor: number) => Result): Result {
    const descriptor = openSync(this.file('server.log'), 'a', 0o600);
    try {
      return use(descriptor);
    } finally {
      closeSync(descriptor);
    }
  }

  /** The last lines of the server's output. */
  tailOfLog(lines = 30): string {
    return readFileSync(this.file('server.log'), 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  }

  async removeIfTemporary(): Promise<void> {
    // Retries: the last processes of the server may still be closing files.
    if (this.temporary) await rm(this.path, { recursive: true, force: true, maxRetries: 10 });
  }

  private async handOver(path: string): Promise<void> {
    if (this.user) await chown(path, this.user.uid, this.user.gid);
  }
}
