import { roles, type Caller, type Role } from './access.js';

/** Who shows a token. */
export interface Credentials {
  /**
   * @returns undefined when the token is not, or no longer, good for anything here
   * @throws Error when that cannot be found out at the moment
   */
  callerOf(token: string): Promise<Caller | undefined>;
}

export const isRole = (text: unknown): text is Role => roles.some((role) => role === text);
