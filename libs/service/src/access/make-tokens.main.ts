import { errorText } from '@starter/messaging';
import { readFileSync, writeFileSync } from 'node:fs';
import { isRole } from './credentials.js';
import { makeToken, TokenFile } from './token-file.js';

// npm run tokens -- FILE NAME=ROLE[,ROLE] …: adds tokens to a file, and prints them for the only time.
const [path, ...wanted] = process.argv.slice(2);

/** @throws Error when a role is none, or a name is there already */
function lineFor(wish: string, taken: readonly string[]): string {
  const [name = '', list = ''] = wish.split('=');
  const roles = list.split(',').filter(isRole);
  if (roles.length === 0 || roles.join() !== list) throw new Error(`${wish} is not of the form NAME=ROLE[,ROLE]`);
  if (taken.includes(name)) throw new Error(`${name} has a token; remove its line from the file to make another`);
  const { token, line } = makeToken(name, roles);
  console.log(`${name} (${list}): ${token}`);
  return `${line}\n`;
}

try {
  if (path === undefined || wanted.length === 0) {
    throw new Error('npm run tokens -- FILE NAME=ROLE[,ROLE] …   roles: client, viewer, operator; see docs/access.md');
  }
  writeFileSync(path, '', { flag: 'a' });
  const taken = TokenFile.parse(readFileSync(path, 'utf8')).names;
  writeFileSync(path, wanted.map((wish) => lineFor(wish, taken)).join(''), { flag: 'a' });
} catch (error) {
  console.error(errorText(error));
  process.exit(1);
}
