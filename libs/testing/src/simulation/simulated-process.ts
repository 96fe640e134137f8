import { databaseOptions, type Message, type Transaction } from '@starter/messaging';
import type { ClientBase, QueryResult } from 'pg';
import type { Socket } from 'node:net';
import { DataSource } from 'typeorm';
import { FaultyCommandTransport, FaultyEventTransport, type MortalProcess } from './faulty-transports.js';
import { Sockets } from './sockets.js';
import type { World } from './world.js';

/**
 * What stands for a process: its connections to the database and to the brokers. When it crashes they all break at once, and
 * whatever its code still does reaches nobody.
 */
export class SimulatedProcess implements MortalProcess {
  /** It has crashed. */
  over = false;
  readonly commands = new FaultyCommandTransport(this);
  readonly events = new FaultyEventTransport(this);
  readonly dataSource: DataSource;
  private readonly sockets = new Sockets();
  private leaving = false;

  /** `onLeave` is called once, when it has crashed or is to stop. */
  constructor(
    readonly world: World,
    private readonly onLeave: () => void,
  ) {
    const stream = () => this.sockets.open();
    this.dataSource = new DataSource(databaseOptions({ url: world.url, poolSize: 3, stream }));
  }

  get inFlight(): number {
    return this.over ? 0 : this.commands.inFlight + this.events.inFlight;
  }

  crash(): void {
    if (this.over) return;
    this.over = true;
    this.sockets.cut();
    this.commands.crash();
    this.events.crash();
    this.retire();
  }

  /** Another one is to take its place. */
  retire(): void {
    if (this.leaving) return;
    this.leaving = true;
    this.onLeave();
  }

  /** Lets the commit of the transaction, in which these messages take effect, meet what is drawn for them. */
  async beforeCommit(tx: Transaction, where: string, messages: readonly Message[]): Promise<void> {
    const fault = this.world.faults.at('commit', where, messages);
    if (fault === undefined) return;
    const client = (await tx.manager.queryRunner?.connect()) as Client;
    // As it is without the guard of the transaction.
    const { query } = Object.getPrototypeOf(client) as Client;
    client.query = async (...request: [unknown, ...unknown[]]) => {
      if (request[0] !== 'COMMIT') return query.apply(client, request);
      if (fault === 'unanswered' || fault === 'crashAfter') await query.call(client, 'COMMIT');
      if (fault === 'crashBefore' || fault === 'crashAfter') this.crash();
      client.connection.stream.destroy();
      return query.call(client, 'COMMIT');
    };
  }

  async close(): Promise<void> {
    await Promise.all([this.commands.close(), this.events.close()]);
    if (this.dataSource.isInitialized) await this.dataSource.destroy();
  }
}

/** More of a connection than the types of `pg` tell. */
interface Client extends Omit<ClientBase, 'query'> {
  query: (...request: [unknown, ...unknown[]]) => Promise<QueryResult>;
  readonly connection: { readonly stream: Socket };
}
