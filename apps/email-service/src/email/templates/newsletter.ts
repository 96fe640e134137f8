import { z } from 'zod';
import { html, line } from './markup.js';
import { defineTemplate } from './template.js';

export const newsletter = defineTemplate('newsletter', {
  variables: z.object({ name: z.string().trim().min(1) }),
  subject: ({ name }) => line`News for you, ${name}`,
  text: ({ name }) => `Hello ${name},

there is news. Sign in to read it.
`,
  html: ({ name }) => html`
    <p>Hello ${name},</p>
    <p>there is news. Sign in to read it.</p>
  `,
});
