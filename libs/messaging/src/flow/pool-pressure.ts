import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';
import type { FlowOptions } from './flow-gate.js';

/**
 * The flow of a consumer whose handlers use this database. Its pressure is the queue for connections, relative to twice the size
 * of the pool: handlers that only wait for one get nothing done, and whoever else needs one has to wait behind them. The pressure
 * that is given counts as well, whichever is higher.
 */
export function withPoolPressure(dataSource: DataSource, flow: FlowOptions = {}): FlowOptions {
  const { pressure = () => 0 } = flow;
  const { master } = dataSource.driver as unknown as { readonly master: Pool };
  return { ...flow, pressure: () => Math.max(pressure(), master.waitingCount / (2 * master.options.max)) };
}
