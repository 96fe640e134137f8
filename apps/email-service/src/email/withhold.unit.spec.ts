import { withhold } from './withhold.js';

const ada = { to: 'ada.lovelace@mail.example.com', variables: { name: 'Ada', title: 'Lady (of) $1' } };

it.each([
  ['550 <ada.lovelace@mail.example.com>: no such user', '550 <[address]>: no such user'],
  ['550 ADA.Lovelace@Mail.example.com is unknown', '550 [address] is unknown'],
  ['550 no mailbox ada.lovelace at mail.example.com.', '550 no mailbox [personal] at [personal].'],
  ['alias of secret@elsewhere.example (ada)', 'alias of [address] ([personal])'],
  ['ADA: Lady (of) $1, adapter', '[personal]: [personal], adapter'],
  ['451 try again later', '451 try again later'],
])('%s → %s', (text, kept) => expect(withhold(text, ada)).toBe(kept));

it('leaves the text as it is when a variable is empty', () => {
  expect(withhold('451 later', { to: 'a@example.com', variables: { name: '' } })).toBe('451 later');
});
