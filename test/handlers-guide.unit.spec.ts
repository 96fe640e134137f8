import { Controller, Inject, Injectable } from '@nestjs/common';
import {
  admitOnce,
  done,
  doneAs,
  inTransaction,
  Messaging,
  OnCommand,
  OnEvent,
  replyEntry,
  type Outcome,
  type Received,
  type ReceivedInSequence,
  type ReceivedTogether,
  type Statement,
} from '@starter/messaging';
import { OnTask, type TaskContext } from '@starter/tasks';
import { readFileSync } from 'node:fs';
import { DataSource } from 'typeorm';
import { z } from 'zod';

// The examples of docs/handlers.md, as they stand there: what compiles here compiles there.

const owner = 'note-service';
const note = z.object({ noteId: z.uuid(), text: z.string() });
const AddNote = { kind: 'command', type: 'note.add', version: 1, owner, schema: note } as const;
const ArchiveNotes = { ...AddNote, type: 'note.archive', schema: z.object({ year: z.int() }) } as const;
const NoteAdded = { kind: 'event', type: 'note.added', version: 1, owner, schema: note } as const;
const NoteRemoved = { ...NoteAdded, type: 'note.removed' } as const;

const [insertNote, countNote, countRemoved] = ['insert', 'count', 'count-removed'].map((name) => ({
  name,
  text: '',
})) as unknown as [Statement, Statement, Statement];

@Injectable()
abstract class SearchIndex {
  abstract index(note: object, options: { readonly id: string; readonly signal: AbortSignal }): Promise<void>;
}

@Injectable()
abstract class Notes {
  abstract archiveMonth(year: number, month: number): Promise<void>;
  abstract countArchived(year: number): Promise<number>;
}

@Controller()
export class NoteController {
  constructor(
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(DataSource) private readonly dataSource: DataSource,
  ) {}

  @OnCommand(AddNote, { failurePolicy: { maxRetries: 5 } })
  add({ data, message, fence }: Received<typeof AddNote>): Promise<Outcome | void> {
    const { commands, outbox, service } = this.messaging;
    return inTransaction(
      this.dataSource,
      async (tx) => {
        const [isFirst] = await admitOnce(tx, [{ consumer: commands.queue, messageId: message.id }]);
        if (!isFirst) return doneAs.duplicates;
        await tx.query(insertNote, [data.noteId, data.text]);
        const reply = replyEntry(message, { result: { noteId: data.noteId } }, service);
        if (reply) await outbox.add(tx, [reply]);
        return done;
      },
      fence,
    );
  }
}

@Controller()
export class StatisticsController {
  @OnEvent(NoteAdded)
  react({ data, message, signal }: Received<typeof NoteAdded>): Promise<void> {
    return this.search.index(data, { id: message.id, signal });
  }

  @OnEvent(NoteAdded, { inSequence: true })
  async count({ data, tx }: ReceivedInSequence<typeof NoteAdded>): Promise<void> {
    await tx.query(countNote, [data.noteId]);
  }

  @OnEvent(NoteRemoved, { inSequence: true, manyPerKey: true })
  async countAll({ events, tx }: ReceivedTogether<typeof NoteRemoved>): Promise<void> {
    await tx.query(countRemoved, [events.map(({ data }) => data.noteId)]);
  }

  constructor(@Inject(SearchIndex) private readonly search: SearchIndex) {}
}

@Controller()
export class ArchiveController {
  @OnTask(ArchiveNotes)
  async archive({ data, progress, signal }: TaskContext<typeof ArchiveNotes>): Promise<{ archived: number }> {
    for (let month = 1; month <= 12; month += 1) {
      signal.throwIfAborted();
      await this.notes.archiveMonth(data.year, month);
      progress(month, 12);
    }
    return { archived: await this.notes.countArchived(data.year) };
  }

  constructor(@Inject(Notes) private readonly notes: Notes) {}
}

const source = readFileSync('test/handlers-guide.unit.spec.ts', 'utf8');
const guide = readFileSync('docs/handlers.md', 'utf8');
const examples = [...guide.matchAll(/```ts\n(.*?)```/gs)].map(([, code = '']) => code);

it.each(examples.filter((code) => code.startsWith('@Controller')))('compiles what the guide shows: %s', (code) =>
  expect(source).toContain(code),
);
