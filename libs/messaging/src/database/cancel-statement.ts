import { connect } from 'node:net';

/** What a server needs to know to end the statement of a connection. */
export interface Cancellable {
  readonly host: string;
  readonly port: number;
  readonly processID: number | null;
  readonly secretKey: number | null;
}

const cancelCode = 80_877_102;

/**
 * Asks the server to end the statement that a connection is at, over another connection, as the protocol wants it.
 * @returns whether the server has taken notice: a server that is away does not
 */
export async function cancelStatement(client: Cancellable, timeoutMs = 2_000): Promise<boolean> {
  const { host, port, processID, secretKey } = client;
  if (processID === null || secretKey === null) return false;
  const request = Buffer.alloc(16);
  [16, cancelCode, processID, secretKey].forEach((value, index) => request.writeInt32BE(value, 4 * index));
  return new Promise((resolve) => {
    const socket = host.startsWith('/') ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host);
    const settle = (noticed: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(noticed);
    };
    const timer = setTimeout(() => settle(false), timeoutMs).unref();
    socket.on('error', () => settle(false));
    // It does not answer; it closes the connection when it has passed the request on.
    socket.on('end', () => settle(true));
    socket.resume();
    socket.write(request);
  });
}
