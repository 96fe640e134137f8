import { StartCampaign } from './email.js';
import { oneLine } from './one-line.js';
import { plain } from './personal.js';
import { RegisterUser } from './user.js';

const fields = [oneLine(200), plain(RegisterUser.schema.shape.name), StartCampaign.schema.shape.name];

it.each(['a\nb', 'a\r\nb', 'a\tb', 'a\u0000b', 'a\u0085b', 'a\u2028b', 'a\u2029b', 'a\u001bb', 'a\u007fb'])(
  'refuses %j',
  (text) => {
    for (const field of fields) {
      expect(field.safeParse(text).error?.issues).toMatchObject([
        { message: expect.stringMatching(/must be one line/) },
      ]);
    }
  },
);

it.each(['Ada Lovelace', 'مريم', 'O’Neill-Šķēle', '👩‍👩‍👧', '李 明', '"Robert"; <b>'])('takes %s', (text) => {
  for (const field of fields) expect(field.parse(text)).toBe(text);
});
