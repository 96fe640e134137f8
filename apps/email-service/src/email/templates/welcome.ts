import { z } from 'zod';
import { html, line } from './markup.js';
import { defineTemplate } from './template.js';

export const welcome = defineTemplate('welcome', {
  variables: z.object({ name: z.string().trim().min(1), code: z.string().min(1) }),
  subject: ({ name }) => line`Welcome, ${name}`,
  text: ({ name, code }) => `Hello ${name},

welcome! Thank you for registering. Please confirm your address.

Your code: ${code}

You receive this e-mail because somebody registered with your address. If it was not you, ignore it.
`,
  html: ({ name, code }) => html`
    <p>Hello ${name},</p>
    <p>welcome! Thank you for registering. Please confirm your address.</p>
    <p>Your code: <b>${code}</b></p>
    <p style="color: #666">
      You receive this e-mail because somebody registered with your address. If it was not you, ignore it.
    </p>
  `,
});
