import type { RunningService } from '@starter/service';
import { DataSource } from 'typeorm';
import type { CaughtMail } from './mail-catcher.js';

interface TracedEvent {
  readonly stream_id: string;
  readonly sequence: string;
  readonly type: string;
  readonly command: string;
  readonly recorded_at: Date;
  readonly service: string;
}

/** The way of one registration, read from the event stores of all services by the commands that it began and went on with. */
export async function tracePath(
  services: readonly RunningService[],
  [registration, verification]: readonly [registration: string, verification: string | undefined],
  mail: CaughtMail | undefined,
): Promise<string> {
  const found = await Promise.all(
    services.map(async ({ name, app }) => {
      const rows = await app
        .get(DataSource)
        .query<Omit<TracedEvent, 'service'>[]>(
          `SELECT stream_id, sequence, type, command, recorded_at FROM event WHERE correlation_id = ANY ($1)`,
          [[registration, verification ?? registration]],
        );
      return rows.map((row): TracedEvent => ({ ...row, service: name }));
    }),
  );
  const events = found.flat().sort((a, b) => a.recorded_at.getTime() - b.recorded_at.getTime());
  const start = events[0]?.recorded_at.getTime() ?? 0;
  const lines = events.map(({ service, command, type, stream_id, sequence, recorded_at }) => {
    const at = `+${recorded_at.getTime() - start} ms`.padStart(9);
    const arrow = `${command} → ${type}`;
    return `${at}  ${service.padEnd(14)} ${arrow.padEnd(54)} ${shorten(stream_id)} @${sequence}`;
  });
  const caught = mail ? [`           mail server    caught "${mail.subject}" for ${mail.to} ${mail.messageId}`] : [];
  return [`           user-service   POST /users → 202, command ${registration}`, ...lines, ...caught].join('\n');
}

const shorten = (stream: string): string => stream.replace(/-([0-9a-f]{8})-[0-9a-f-]{27}$/, '-$1…');
