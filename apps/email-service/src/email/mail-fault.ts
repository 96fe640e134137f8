import type { NodemailerError } from 'nodemailer';
import type { MailFault } from './mail-error.js';

/** `originalCode`: of Node.js, where nodemailer has put its own in the place of it. */
type Answer = Pick<NodemailerError, 'code' | 'originalCode' | 'command' | 'response' | 'responseCode'>;

/**
 * Whose fault an error of nodemailer is, by the command that was answered, the reply code (RFC 5321) and the enhanced status
 * code (RFC 3463). In doubt it is not the e-mail's: whoever is told that an e-mail failed may act on it for good.
 */
export function faultOf({ code, originalCode, command = '', response = '', responseCode }: Answer): MailFault {
  // Nothing was sent: nodemailer itself found the address, or the message, to be none.
  if (command === 'API') return code === 'EENVELOPE' ? 'recipient' : code === 'EMESSAGE' ? 'content' : 'temporary';
  if (responseCode === undefined) return withoutAnswer(code, originalCode);
  const [, enhanced = ''] = /^\d{3}[ -]([245]\.\d{1,3}\.\d{1,3})\b/.exec(response) ?? [];
  if (responseCode < 500) return 'temporary';
  // 503 tells that the session was in the wrong state, and a new one may not be.
  if (responseCode === 503) return 'temporary';
  if (isAboutSession(command) || isAboutAccess(responseCode, enhanced, response)) return 'set-up';
  if (tooLarge(responseCode, enhanced, command)) return 'content';
  if (command === 'MAIL FROM') return 'set-up';
  if (command === 'RCPT TO') return isAboutMailbox(responseCode, enhanced) ? 'recipient' : 'set-up';
  if (isMailboxStatus(enhanced)) return 'recipient';
  return isContentStatus(responseCode, enhanced) ? 'content' : 'set-up';
}

/** A connection that could not be made is the set-up's, or the server is away; one that broke may be made again. */
function withoutAnswer(code = '', originalCode = ''): MailFault {
  if (code === 'EMESSAGE') return 'content';
  const broken = ['ECONNRESET', 'EPIPE', 'ETIMEDOUT'].includes(originalCode);
  return !broken &&
    ['EDNS', 'ETLS', 'EAUTH', 'ENOAUTH', 'EOAUTH2', 'ESOCKET', 'EREQUIRETLS', 'ECONFIG', 'EPROXY'].includes(code)
    ? 'set-up'
    : 'temporary';
}

/** Greeting, EHLO, STARTTLS, AUTH, RSET: no e-mail has been named yet. */
const isAboutSession = (command: string): boolean => !['MAIL FROM', 'RCPT TO', 'DATA'].includes(command);

/** Who we are, or whether we may send through this server at all; servers without enhanced codes say it in words. */
const isAboutAccess = (code: number, enhanced: string, response: string): boolean =>
  [530, 534, 535, 538].includes(code) ||
  /^5\.7\.(0|3|8|9|1[0-4]|2[0-9])$/.test(enhanced) ||
  /\brelay|authenticat|not (allowed|permitted|authori[sz]ed) to send|\bspf\b|\bdmarc\b|\bblock(ed|list)|blacklist/i.test(
    response,
  );

const tooLarge = (code: number, enhanced: string, command: string): boolean =>
  enhanced === '5.3.4' || (code === 552 && enhanced === '' && command === 'MAIL FROM');

/** 5.1.7 and 5.1.8 are about the sender's address. */
const isMailboxStatus = (enhanced: string): boolean => /^5\.(1\.(?![78]$)|2\.)/.test(enhanced);

const isAboutMailbox = (code: number, enhanced: string): boolean =>
  enhanced === '' ? [550, 551, 552, 553, 556].includes(code) : isMailboxStatus(enhanced);

/** 5.6 is the content, 5.7.1 a policy that refuses it (as spam, mostly); without a status what follows the content is about it. */
const isContentStatus = (code: number, enhanced: string): boolean =>
  enhanced === '' ? [550, 552, 554].includes(code) : /^5\.(6\.|7\.[1-7]$|0\.0$)/.test(enhanced);
