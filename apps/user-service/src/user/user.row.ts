import { Column, Entity, PrimaryColumn } from 'typeorm';

/** What `GET /users` reads: the user directory, a projection of the user events. */
@Entity('user_directory')
export class UserRow {
  @PrimaryColumn('uuid', { name: 'user_id' })
  id: string;

  /** Sealed, like the name. */
  @Column('text')
  email: string;

  @Column('text')
  name: string;

  @Column('text')
  status: 'registered' | 'verified' | 'active' | 'deactivated' | 'erased';

  @Column('timestamptz', { name: 'registered_at' })
  registeredAt: Date;

  /** Sequence of the last event that is in this row. */
  @Column('integer')
  version: number;
}
