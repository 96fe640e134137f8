import { createRequire } from 'node:module';

interface Connection {
  chunks: Buffer[];
  bytesBuffered: number;
  bytesNeeded: number;
  isConnected(): boolean;
  connect(): Promise<unknown>;
}

const require = createRequire(import.meta.url);
const { prototype } = require('kafkajs/src/network/connection.js') as { readonly prototype: Connection };
const connect = prototype.connect;

/** Every answer begins with its length. */
const lengthBytes = 4;

/**
 * kafkajs 2.2.4 uses a connection again after it broke, and puts what comes then behind the half answer that it still holds of
 * before: it reads nonsense, and throws where nobody catches it, which ends the process. What is new begins with nothing.
 */
prototype.connect = function (this: Connection): Promise<unknown> {
  if (!this.isConnected()) Object.assign(this, { chunks: [], bytesBuffered: 0, bytesNeeded: lengthBytes });
  return connect.call(this);
};
