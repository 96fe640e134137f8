import { MailError } from './mail-error.js';
import { render } from './templates.js';
import { html, line } from './templates/markup.js';

describe.each(['welcome', 'verification-reminder'] as const)('the template %s', (template) => {
  const welcome = (variables: Record<string, string>) =>
    render({ template, variables: { code: 'c0de', ...variables } });

  it('has a subject, a text and an HTML part', () => {
    const { subject, text, html } = welcome({ name: 'Zoë Æther' });
    expect(subject).toContain('Zoë Æther');
    expect(text).toMatch(/^Your code: c0de$/m);
    expect(html).toContain('c0de');
    expect(text).toContain('Hello Zoë Æther,');
    expect(html).toContain('<p>Hello Zoë Æther,</p>');
  });

  it('escapes what it is given in HTML and only there', () => {
    const { text, html } = welcome({ name: `<img src=x onerror="alert('1')"> & Co` });
    expect(html).toContain('&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt; &amp; Co');
    expect(html).not.toContain('<img');
    expect(text).toContain(`<img src=x onerror="alert('1')"> & Co`);
  });

  it.each(['\r\n', '\n', '\r', '\u2028', '\u2029', '\0', '\u0085'])('keeps %j out of the subject', (lineBreak) => {
    const { subject } = welcome({ name: `Ada${lineBreak}Bcc: all@example.com` });
    expect(subject).toContain('Ada Bcc: all@example.com');
  });

  it.each([{}, { Name: 'Ada' }, { name: '' }, { name: ' ' }])(
    'refuses %j for good and names the variable',
    (variables) => {
      expect(() => welcome(variables)).toThrow(MailError);
      expect(() => welcome(variables)).toThrow(`template ${template} was given wrong variables: name: `);
    },
  );

  it('ignores variables that it does not use', () => {
    expect(welcome({ name: 'Ada', plan: 'free' })).toEqual(welcome({ name: 'Ada' }));
  });
});

describe('markup', () => {
  it('escapes values, never the template itself, and takes backslashes and replacement patterns as they are', () => {
    expect(html`<a title="${'"\''}">${'$& \\n'}</a>`).toBe('<a title="&quot;&#39;">$&amp; \\n</a>');
    expect(html`&amp;${''}`).toBe('&amp;');
    expect(line`${'a\r\n\tb'} ${'c'}`).toBe('a b c');
  });
});
