import type { Message } from '@starter/messaging';
import { Column, Entity, PrimaryColumn, PrimaryGeneratedColumn } from 'typeorm';

// The tables of the library, as TypeORM sees them.

@Entity('inbox')
export class InboxRow {
  @PrimaryColumn('text')
  consumer: string;

  @PrimaryColumn('text', { name: 'message_id' })
  messageId: string;
}

@Entity('event')
export class EventRow {
  @PrimaryColumn('text', { name: 'stream_id' })
  streamId: string;

  @PrimaryColumn('bigint')
  sequence: number;

  @Column('uuid')
  id: string;

  @Column('text')
  type: string;

  @Column('integer')
  version: number;

  @Column('jsonb')
  data: object;

  @Column('text', { name: 'correlation_id' })
  correlationId: string;

  @Column('text', { name: 'causation_id', nullable: true })
  causationId: string | null;

  @Column('text')
  command: string;

  @Column('timestamptz', { name: 'recorded_at' })
  recordedAt: Date;
}

@Entity('outbox')
export class OutboxRow {
  @PrimaryGeneratedColumn('identity', { type: 'bigint', generatedIdentity: 'ALWAYS' })
  position: string;

  @Column('text')
  channel: 'command' | 'event';

  @Column('text')
  address: string;

  @Column('text', { name: 'ordering_key' })
  orderingKey: string;

  @Column('json')
  message: Message;
}
