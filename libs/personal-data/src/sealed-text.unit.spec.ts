import { maskSealed, readSealed } from '@starter/messaging';
import { randomBytes } from 'node:crypto';
import { MasterKey } from './master-key.js';
import { openText, sealText } from './sealed-text.js';

const ada = { owner: 'user-service', subject: 'ada-1' };
const key = randomBytes(32);
const secret = () => randomBytes(32).toString('base64');

describe('a sealed text', () => {
  it.each(['Ada', '', 'Ädä 🦊', 'x'.repeat(10_000), 'sealed:v1:a/b:c:d'])('opens to what it was: %#', (text) => {
    const sealed = sealText(key, ada, 'name', text);
    expect(openText(key, sealed)).toBe(text);
    expect(readSealed(sealed)).toMatchObject({ ...ada, field: 'name' });
  });

  it('says nothing of what is in it, and never looks the same', () => {
    const [one, other] = [sealText(key, ada, 'name', 'Ada'), sealText(key, ada, 'name', 'Ada')];
    expect(one).toMatch(/^sealed:v1:user-service\/ada-1\/name:[\w-]{16}:[\w-]+$/);
    expect(one).not.toBe(other);
    expect(one).not.toContain('Ada');
  });

  it('is masked wherever it stands in a view, whole or cut off, and what is around it stays JSON', () => {
    const sealed = sealText(key, ada, 'data.email', 'ada@example.com');
    const view = {
      [sealed]: `no such user ${sealed}, ${sealed}`,
      list: [sealed.slice(0, -30), 'sealed:v1: is a form'],
    };
    const masked = '[sealed user-service/ada-1/data.email]';
    expect(JSON.parse(maskSealed(JSON.stringify(view)))).toEqual({
      [masked]: `no such user ${masked}, ${masked}`,
      list: [masked, 'sealed:v1: is a form'],
    });
  });

  it('does not open when any character of it was changed, or when it was cut', () => {
    const sealed = sealText(key, ada, 'name', 'Ada');
    const from = sealed.indexOf('ada-1');
    for (let place = from; place < sealed.length - 1; place += 1) {
      const other = sealed[place] === 'b' ? 'c' : 'b';
      const changed = sealed.slice(0, place) + other + sealed.slice(place + 1);
      expect(() => openText(key, changed)).toThrow('does not open');
    }
    expect(() => openText(key, sealed.slice(0, -4))).toThrow('does not open');
  });

  it('does not open as that of another subject or as another field, nor with another key', () => {
    const sealed = sealText(key, ada, 'name', 'Ada');
    expect(() => openText(key, sealed.replace('ada-1', 'eve-1'))).toThrow('user-service/eve-1 does not open');
    expect(() => openText(key, sealed.replace('user-service', 'shop'))).toThrow('does not open');
    expect(() => openText(key, sealed.replace('/name:', '/email:'))).toThrow('does not open');
    expect(() => openText(randomBytes(32), sealed)).toThrow('does not open');
  });

  it.each([
    'Ada',
    'sealed:',
    'sealed:v1:user-service/ada-1/name:short:short',
    'sealed:v1:user-service/ada-1:AAAAAAAAAAAAAAAA:AAAAAAAAAAAAAAAAAAAAAA',
    'sealed:v2:a/b/c:AAAAAAAAAAAAAAAA:AAAAAAAAAAAAAAAAAAAAAA',
  ])('is not: %s', (text) => expect(readSealed(text)).toBeUndefined());
});

describe('the master key', () => {
  it('unwraps what it has wrapped, for that subject only', () => {
    const master = new MasterKey(secret());
    const wrapped = master.wrap(ada, key);
    expect(master.unwrap(ada, wrapped)).toEqual(key);
    expect(() => master.unwrap({ ...ada, subject: 'eve' }, wrapped)).toThrow('the key of user-service/eve was wrapped');
    expect(() => new MasterKey(secret()).unwrap(ada, wrapped)).toThrow(/another master key; set PERSONAL_DATA_KEY/);
  });

  it('has fingerprints that are equal for equal texts, and different for another master key', () => {
    const master = new MasterKey(secret());
    expect(master.fingerprint('ada')).toBe(master.fingerprint('ada'));
    expect(master.fingerprint('ada')).not.toBe(master.fingerprint('eve'));
    expect(master.fingerprint('ada')).not.toBe(new MasterKey(secret()).fingerprint('ada'));
  });

  it.each(['', 'secret', randomBytes(31).toString('base64'), randomBytes(33).toString('base64')])(
    'is 32 bytes, not %j',
    (text) => expect(() => new MasterKey(text)).toThrow('openssl rand -base64 32'),
  );
});
