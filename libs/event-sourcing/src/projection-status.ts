import type { DataSource } from 'typeorm';
import type { Projection } from './projection.js';

/** A projection of a service, and how it gets its events. */
export interface FollowedProjection {
  readonly projection: Projection;
  /** The name under which it follows its topic (`consumerOf`); none when it is inline. */
  readonly consumer?: string;
}

export interface ProjectionStatus {
  readonly name: string;
  readonly kind: 'inline' | 'asynchronous';
  /** Empty: it cannot be rebuilt. */
  readonly tables: readonly string[];
  /** Stored events that are not in its rows yet. */
  readonly behind: number;
  /** Events that wait for a predecessor or for their next attempt. */
  readonly waiting: number;
  /** Events that wait for a human; each holds back its stream. */
  readonly failed: number;
  /** When its tables were last made anew. */
  readonly rebuiltAt?: Date;
}

/** Costs a pass over the primary key of the log. */
export async function projectionStatus(
  dataSource: DataSource,
  projections: readonly FollowedProjection[],
): Promise<ProjectionStatus[]> {
  const rows = await dataSource.query<{ behind: number; waiting: number; failed: number; rebuiltAt: Date | null }[]>(
    `WITH followed AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS followed (name, consumer, place)),
          log AS MATERIALIZED (SELECT stream_id, max(sequence) AS head FROM event GROUP BY stream_id)
     SELECT coalesce(behind, 0)::int AS behind, coalesce(waiting, 0)::int AS waiting, coalesce(failed, 0)::int AS failed,
            finished_at AS "rebuiltAt"
       FROM followed
       LEFT JOIN (SELECT followed.consumer, sum(greatest(head - coalesce(seen.sequence, 0), 0)) AS behind
                    FROM followed CROSS JOIN log
                    LEFT JOIN inbox_sequence seen ON seen.consumer = followed.consumer AND key = stream_id
                   GROUP BY 1) lag USING (consumer)
       LEFT JOIN (SELECT consumer, count(*) FILTER (WHERE failure IS NULL) AS waiting, count(failure) AS failed
                    FROM inbox_parked GROUP BY 1) parked USING (consumer)
       LEFT JOIN projection_rebuild ON projection = name
      ORDER BY place`,
    [projections.map(({ projection }) => projection.name), projections.map(({ consumer }) => consumer ?? null)],
  );
  return projections.map(({ projection: { name, tables }, consumer }, index) => {
    const { rebuiltAt, ...counts } = rows[index] as (typeof rows)[number];
    const kind = consumer === undefined ? 'inline' : 'asynchronous';
    return { name, kind, tables, ...counts, ...(rebuiltAt ? { rebuiltAt } : {}) };
  });
}
