import type { DataSource } from 'typeorm';
import {
  erasedReason,
  isSealed,
  type Message,
  type MessageDefinition,
  type Messaging,
  type Outbox,
  type PersonalItem,
  readSealed,
  replaceFields,
  type Sealing,
  subjectOf,
  textsAt,
  TerminalError,
  type Transaction,
  TransientError,
  ValidationError,
} from '@starter/messaging';
import { KeyCreated, KeyErased, keyTopic } from './key-messages.js';
import { MasterKey } from './master-key.js';
import { PersonalKeys } from './personal-keys.js';
import { nameOf, openText, sealText, type Subject } from './sealed-text.js';

export interface PersonalDataOptions {
  readonly service: string;
  readonly dataSource: DataSource;
  readonly outbox: Outbox;
  /** PERSONAL_DATA_KEY: 32 bytes in base64, the same in all services. Without it nothing can be sealed or opened. */
  readonly masterKey?: string;
}

export interface PersonalDataSettings {
  /** See {@link PersonalDataOptions.masterKey}. */
  readonly masterKey: string;
  /** Services whose sealed texts are opened here. Default: none but its own. */
  readonly follows?: readonly string[];
}

/** The subject was erased: there is no key for it any more, and there will be none. */
export class ErasedSubjectError extends Error {
  override readonly name = 'ErasedSubjectError';
}

/** Sealed by another service whose key has not arrived here yet: try again in a moment. */
export class KeyNotArrivedError extends TransientError {}

/** Seals the personal fields of commands, and opens what is sealed where it is needed. */
export class PersonalData implements Sealing {
  private readonly keysOrNone: PersonalKeys | undefined;
  private readonly masterKey: MasterKey | undefined;
  private readonly followed = new Set<string>();

  constructor(private readonly options: PersonalDataOptions) {
    if (options.masterKey === undefined) return;
    this.masterKey = new MasterKey(options.masterKey);
    this.keysOrNone = new PersonalKeys({ ...options, masterKey: this.masterKey });
  }

  /**
   * That of a service: what its actors get is sealed, and the keys of `follows`, the services whose sealed texts it opens, come
   * here. Before the application has started.
   */
  static join(messaging: Messaging, { masterKey, follows = [] }: PersonalDataSettings): PersonalData {
    const { service, dataSource, outbox } = messaging;
    const personalData = new PersonalData({ service, dataSource, outbox, masterKey });
    messaging.extend({
      sealing: personalData,
      topics: [{ name: keyTopic(service), compacted: true }],
      start: () => personalData.keys.check(),
    });
    const { keys } = personalData;
    for (const owner of follows) {
      personalData.follow(owner);
      messaging
        .reactTo(keyTopic(owner), `${service}.personal-keys`)
        .on(KeyCreated, ({ data }) => keys.learnCreated({ owner, ...data }))
        .on(KeyErased, ({ data }) => keys.learnErased({ owner, ...data }));
    }
    return personalData;
  }

  /** @throws Error without the master key */
  get keys(): PersonalKeys {
    if (this.keysOrNone) return this.keysOrNone;
    throw new Error(`${this.options.service} seals or opens personal data; set PERSONAL_DATA_KEY for it`);
  }

  /** Keys of another service's subjects arrive here: what cannot be opened yet can be in a moment. */
  follow(owner: string): void {
    this.followed.add(owner);
  }

  /** @throws ValidationError when the item names no subject, or a sealed field is of somebody else than it */
  check(item: PersonalItem): void {
    subjectOf(item);
    refuseOthers(item);
  }

  /**
   * The data of each item with its plain personal fields sealed, undefined where the subject was erased. Any number of items
   * costs the same few statements, and none when all keys are in memory.
   * @throws ValidationError when a sealed field is of somebody else than the item
   */
  async seal(tx: Transaction, items: readonly PersonalItem[]): Promise<unknown[]> {
    const subjects = new Set(items.filter(hasPlainText).map(subjectOf));
    items.forEach(refuseOthers);
    if (subjects.size === 0) return items.map(({ data }) => data);
    const keys = await this.keys.toSealFor(tx, [...subjects]);
    return items.map((item) => {
      if (!hasPlainText(item)) return item.data;
      const subject = subjectOf(item);
      const key = keys.get(subject);
      if (!key) return undefined;
      const owned = { owner: this.options.service, subject };
      return (item.definition.personal ?? []).reduce(
        (data, path) =>
          replaceFields(data, [path], (value) =>
            typeof value === 'string' && !isSealed(value) ? sealText(key, owned, fieldOf(path), value) : value,
          ),
        item.data,
      );
    });
  }

  /**
   * A message that may be stored and sent.
   * @throws ErasedSubjectError, ValidationError
   */
  async sealMessage(tx: Transaction, definition: PersonalItem['definition'], message: Message): Promise<Message> {
    const item = { definition, data: message.data };
    const [data] = await this.seal(tx, [item]);
    if (data === undefined) throw new ErasedSubjectError(`${erasedReason(subjectOf(item))}; it cannot be used again`);
    return { ...message, data };
  }

  /**
   * The plain texts, `null` where the subject was erased; one query, and never from memory.
   * @throws KeyNotArrivedError; TerminalError when a text cannot be opened here, or was changed
   */
  async open(texts: readonly string[]): Promise<(string | null)[]> {
    const subjects = texts.map(sealedFor);
    const distinct = new Map(subjects.map((subject) => [nameOf(subject), subject]));
    const keys = await this.keys.stored([...distinct.values()]);
    return texts.map((text, index) => {
      const subject = subjects[index] as Subject;
      const key = keys.get(nameOf(subject));
      if (key === undefined) throw this.missing(subject);
      return key && openText(key, text);
    });
  }

  /**
   * Data with its personal fields opened; `null` when one of their subjects was erased.
   * @throws what `open` throws
   */
  async openData<Data>({ personal = [] }: Pick<MessageDefinition, 'personal'>, data: Data): Promise<Data | null> {
    const opened = await this.open(textsAt(data, personal));
    if (opened.includes(null)) return null;
    const texts = opened.values();
    return replaceFields(data, personal, () => texts.next().value) as Data;
  }

  /**
   * Keyed hashes of sealed texts of this service, by which equal ones are found without opening them; undefined where the
   * subject was erased. `normalise` decides what counts as equal.
   */
  async fingerprints(
    tx: Transaction,
    texts: readonly string[],
    normalise: (text: string) => string,
  ): Promise<(string | undefined)[]> {
    const subjects = texts.map((text) => sealedFor(text).subject);
    const keys = await this.keys.inUse(tx, [...new Set(subjects)]);
    return texts.map((text, index) => {
      const key = keys.get(subjects[index] ?? '');
      return key ? this.fingerprint(normalise(openText(key, text))) : undefined;
    });
  }

  /** @throws Error without the master key */
  fingerprint(text: string): string {
    if (this.masterKey) return this.masterKey.fingerprint(text);
    throw new Error(`${this.options.service} hashes personal data; set PERSONAL_DATA_KEY for it`);
  }

  /** Destroys the keys of these subjects of this service: whatever was sealed for them is noise, wherever it is. */
  async erase(tx: Transaction, subjects: readonly string[]): Promise<void> {
    await this.keys.erase(tx, subjects);
  }

  private missing(subject: Subject): Error {
    const what = `the key of ${nameOf(subject)} is not here`;
    if (this.followed.has(subject.owner)) return new KeyNotArrivedError(`${what} yet`);
    return subject.owner === this.options.service
      ? new TerminalError(`${what}; restore the table personal_key`)
      : new TerminalError(
          `${what}; follow the keys of ${subject.owner}: PersonalDataModule.forRoot({ …, follows: ['${subject.owner}'] })`,
        );
  }
}

/** Of all members of a list or record the same: `names.*` are `names`. */
const fieldOf = (path: string): string =>
  path
    .split('.')
    .filter((step) => step !== '*')
    .join('.');

const hasPlainText = ({ definition: { personal = [], personalTo }, data }: PersonalItem): boolean =>
  personalTo !== undefined && textsAt(data, personal).some((text) => !isSealed(text));

/** Else one could make somebody else's data one's own, and it would be erased with the wrong person. */
function refuseOthers(item: PersonalItem): void {
  const { type, personal = [], personalTo } = item.definition;
  if (personalTo === undefined) return;
  const others = textsAt(item.data, personal).filter(
    (text) => (readSealed(text)?.subject ?? subjectOf(item)) !== subjectOf(item),
  );
  if (others.length === 0) return;
  throw new ValidationError(`${type} for ${subjectOf(item)} holds what was sealed for somebody else; seal it anew`);
}

function sealedFor(text: string): Subject {
  const subject = readSealed(text);
  if (subject) return subject;
  throw new TerminalError('a text that is not sealed was to be opened; only sealed texts are stored');
}
