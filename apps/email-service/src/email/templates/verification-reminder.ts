import { z } from 'zod';
import { html, line } from './markup.js';
import { defineTemplate } from './template.js';

export const verificationReminder = defineTemplate('verification-reminder', {
  variables: z.object({ name: z.string().trim().min(1), code: z.string().min(1) }),
  subject: ({ name }) => line`${name}, please confirm your address`,
  text: ({ name, code }) => `Hello ${name},

your address is not confirmed yet. Without that your registration ends soon.

Your code: ${code}

You receive this e-mail because somebody registered with your address. If it was not you, ignore it.
`,
  html: ({ name, code }) => html`
    <p>Hello ${name},</p>
    <p>your address is not confirmed yet. Without that your registration ends soon.</p>
    <p>Your code: <b>${code}</b></p>
    <p style="color: #666">
      You receive this e-mail because somebody registered with your address. If it was not you, ignore it.
    </p>
  `,
});
