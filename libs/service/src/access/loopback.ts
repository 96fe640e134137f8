import { isIPv4 } from 'node:net';

/** Whether a host name or address is this machine and reaches no other. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || host === '[::1]' || (isIPv4(host) && host.startsWith('127.'));
