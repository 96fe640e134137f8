import { randomBytes } from 'node:crypto';
import type { DataSource, EntityManager } from 'typeorm';

/** Tables that cannot be replaced by another of the same name, and why. */
const obstacles = `
  SELECT format('%s has the foreign key %I', conrelid::regclass, conname) AS obstacle
    FROM pg_constraint WHERE contype = 'f' AND (conrelid = ANY($1::regclass[]) OR confrelid = ANY($1::regclass[]))
  UNION ALL
  SELECT format('%s has the trigger %I', tgrelid::regclass, tgname)
    FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = ANY($1::regclass[])
  UNION ALL
  SELECT DISTINCT format('the view %s reads %s', ev_class::regclass, refobjid::regclass)
    FROM pg_depend JOIN pg_rewrite ON pg_rewrite.oid = objid
   WHERE classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass
     AND refobjid = ANY($1::regclass[]) AND ev_class <> refobjid
  UNION ALL
  SELECT format('%s draws numbers from the sequence %s', refobjid::regclass, objid::regclass)
    FROM pg_depend JOIN pg_class ON pg_class.oid = objid AND relkind = 'S'
   WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
     AND deptype IN ('a', 'i') AND refobjid = ANY($1::regclass[])`;

/** What makes a table out of bare columns, under the names that it has in the live one, and who may use it. */
const definitions = `
  SELECT format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', $2::text, $1::text, conname, pg_get_constraintdef(oid)) AS text
    FROM pg_constraint WHERE conrelid = $1::regclass AND contype IN ('p', 'u', 'x')
  UNION ALL
  SELECT replace(pg_get_indexdef(indexrelid), format(' ON %I.%I ', current_schema(), $1::text), format(' ON %I.%I ', $2::text, $1::text))
    FROM pg_index
   WHERE indrelid = $1::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid)
  UNION ALL
  SELECT format('GRANT %s ON %I.%I TO %s', privilege_type, $2::text, $1::text,
                CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
    FROM pg_class, aclexplode(relacl) WHERE oid = $1::regclass AND grantee <> relowner`;

/**
 * Empty tables like those of a projection, in a schema of their own. They carry the names of the live ones, indexes and
 * constraints included, so that statements written for those fill these, and nothing can tell them apart once they have taken
 * their places.
 */
export class ShadowTables {
  private constructor(
    readonly schema: string,
    private readonly live: string,
    private readonly tables: readonly string[],
  ) {}

  /** Removes what a rebuild that was killed has left. The caller makes sure that no other one is under way. */
  static async create(dataSource: DataSource, owner: string, tables: readonly string[]): Promise<ShadowTables> {
    await refuseObstacles(dataSource, tables);
    const prefix = `rebuild_${owner.replace(/\W/g, '_').slice(0, 40)}_`;
    // A name that was never used: a rebuild that has lost its lock must find nothing, rather than the tables of the next one.
    const schema = prefix + randomBytes(6).toString('hex');
    const live = await dataSource.transaction(async (manager) => {
      const [{ current }] = await manager.query<[{ current: string }]>(
        `SELECT quote_ident(current_schema()) AS current`,
      );
      const like = `${prefix.replaceAll('_', '\\_')}____________`;
      const leftovers = await manager.query<{ nspname: string }[]>(
        `SELECT nspname FROM pg_namespace WHERE nspname LIKE $1`,
        [like],
      );
      for (const { nspname } of leftovers) await manager.query(`DROP SCHEMA ${nspname} CASCADE`);
      await manager.query(`CREATE SCHEMA ${schema}`);
      for (const table of tables) {
        await manager.query(
          `CREATE TABLE ${schema}.${quoted(table)} (LIKE ${current}.${quoted(table)} INCLUDING ALL EXCLUDING INDEXES)`,
        );
        for (const { text } of await manager.query<{ text: string }[]>(definitions, [table, schema])) {
          await manager.query(text);
        }
      }
      return current;
    });
    return new ShadowTables(schema, live, tables);
  }

  /** Until the end of the transaction the names of the tables mean these. */
  async shadow(manager: EntityManager): Promise<void> {
    await manager.query(`SET LOCAL search_path TO ${this.schema}, ${this.live}`);
  }

  /** @throws Error when the transaction has written a table that is none of these */
  async refuseOtherWrites(manager: EntityManager): Promise<void> {
    // Whoever writes a table holds this lock until the transaction ends.
    const others = await manager.query<{ relname: string }[]>(
      `SELECT relname FROM pg_locks JOIN pg_class ON pg_class.oid = relation
        WHERE pid = pg_backend_pid() AND mode = 'RowExclusiveLock' AND relkind IN ('r', 'p')
          AND relnamespace <> $1::regnamespace`,
      [this.schema],
    );
    if (others.length === 0) return;
    const names = others.map(({ relname }) => relname).join(', ');
    throw new Error(
      `the projection writes ${names}, which it does not declare; add it to its tables, if it is its own`,
    );
  }

  /** Puts these in the places of the live ones, which are gone when the transaction commits. */
  async takeOver(manager: EntityManager): Promise<void> {
    for (const table of this.tables) {
      await manager.query(`DROP TABLE ${this.live}.${quoted(table)}`);
      await manager.query(`ALTER TABLE ${this.schema}.${quoted(table)} SET SCHEMA ${this.live}`);
    }
  }

  async drop(dataSource: DataSource): Promise<void> {
    await dataSource.query(`DROP SCHEMA IF EXISTS ${this.schema} CASCADE`);
  }
}

async function refuseObstacles(dataSource: DataSource, tables: readonly string[]): Promise<void> {
  const found = await dataSource.query<{ obstacle: string }[]>(obstacles, [tables.map(quoted)]);
  if (found.length === 0) return;
  const what = found.map(({ obstacle }) => obstacle).join('; ');
  throw new Error(
    `${what}: a rebuild replaces the table and would lose that; take it away, rebuild, and create it again`,
  );
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
