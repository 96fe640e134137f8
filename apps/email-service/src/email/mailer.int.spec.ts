import { simpleParser } from 'mailparser';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';
import { buffer } from 'node:stream/consumers';
import { PermanentMailError, TransientMailError } from './mail-error.js';
import { Mailer, type MailerOptions } from './mailer.js';

const id = '01980000-0000-7000-8000-000000000001';
const mail = { to: 'ada@example.com', subject: 'Grüße', text: 'plain', html: '<p>rich</p>' };

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function mailer(port: number, options: Partial<MailerOptions> = {}): Mailer {
  const url = `smtp://127.0.0.1:${port}`;
  const created = new Mailer({ url, from: 'Starter <no-reply@mail.example>', ...options });
  closers.push(() => created.onApplicationShutdown());
  return created;
}

async function smtpServer(options: SMTPServerOptions = {}): Promise<number> {
  const server = new SMTPServer({ authOptional: true, disabledCommands: ['AUTH'], logger: false, ...options });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => new Promise<void>((resolve) => server.close(resolve)));
  return (server.server.address() as AddressInfo).port;
}

async function plainServer(onConnection: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined));
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    sockets.forEach((socket) => socket.destroy());
    return new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

const refusal = (responseCode: number, text: string) => Object.assign(new Error(text), { responseCode });

describe('the mailer', () => {
  it('hands over one e-mail with all its parts', async () => {
    const received: Buffer[] = [];
    const recipients: string[][] = [];
    const port = await smtpServer({
      onData: (stream, session, callback) => {
        recipients.push(session.envelope.rcptTo.map(({ address }) => address));
        void buffer(stream)
          .then((raw) => received.push(raw))
          .then(() => callback());
      },
    });
    await expect(mailer(port).send(id, mail)).resolves.toBe(`<${id}@mail.example>`);

    expect(recipients).toEqual([['ada@example.com']]);
    const parsed = await simpleParser(received[0]!);
    expect(parsed.messageId).toBe(`<${id}@mail.example>`);
    expect(parsed.from?.value).toEqual([{ name: 'Starter', address: 'no-reply@mail.example' }]);
    expect(parsed.subject).toBe('Grüße');
    expect(parsed.text?.trim()).toBe('plain');
    expect(parsed.html).toContain('<p>rich</p>');
    expect(parsed.headers.get('auto-submitted')).toBe('auto-generated');
  });

  it.each([
    ['no-reply@mail.example', { name: '', address: 'no-reply@mail.example' }],
    ['<no-reply@mail.example>', { name: '', address: 'no-reply@mail.example' }],
    ['Zoë, Inc. <no-reply@mail.example>', { name: 'Zoë, Inc.', address: 'no-reply@mail.example' }],
    ['"Starter, Inc." <no-reply@mail.example>', { name: 'Starter, Inc.', address: 'no-reply@mail.example' }],
  ])('sends as %s', async (from, sender) => {
    const received: Buffer[] = [];
    const port = await smtpServer({
      onData: (stream, _, callback) =>
        void buffer(stream)
          .then((raw) => received.push(raw))
          .then(() => callback()),
    });
    await expect(mailer(port, { from }).send(id, mail)).resolves.toBe(`<${id}@mail.example>`);
    expect((await simpleParser(received[0]!)).from?.value).toEqual([sender]);
  });

  it('needs a sender', () => {
    expect(() => mailer(25, { from: 'Starter' })).toThrow('write Name <address@domain>');
  });

  it('lets no subject and no recipient add a header or a recipient', async () => {
    const received: Buffer[] = [];
    const port = await smtpServer({
      onData: (stream, _, callback) =>
        void buffer(stream)
          .then((raw) => received.push(raw))
          .then(() => callback()),
    });
    await mailer(port).send(id, { ...mail, subject: 'Hello\r\nBcc: eve@example.com\r\n\r\nbody' });
    const parsed = await simpleParser(received[0]!);
    expect(parsed.bcc).toBeUndefined();
    expect([...parsed.headers.keys()]).not.toContain('bcc');
    expect(parsed.text?.trim()).toBe('plain');
    await expect(
      mailer(port).send(id, { ...mail, to: 'ada@example.com\r\nRCPT TO:<eve@example.com>' }),
    ).rejects.toThrow();
    expect(received).toHaveLength(1);
  });

  it.each([
    ['a recipient', 550, { onRcptTo: (_a, _s, cb) => cb(refusal(550, 'no such user')) } satisfies SMTPServerOptions],
    ['the sender', 553, { onMailFrom: (_a, _s, cb) => cb(refusal(553, 'not allowed')) } satisfies SMTPServerOptions],
    [
      'the content',
      554,
      {
        onData: (stream, _, cb) => {
          stream.resume();
          stream.on('end', () => cb(refusal(554, 'looks like spam')));
        },
      } satisfies SMTPServerOptions,
    ],
  ] as [string, number, SMTPServerOptions][])(
    'a server that refuses %s (%i) is permanent',
    async (_, code, options) => {
      const sending = mailer(await smtpServer(options)).send(id, mail);
      await expect(sending).rejects.toThrow(PermanentMailError);
      await expect(sending).rejects.toThrow(String(code));
    },
  );

  it('an address that is none is permanent', async () => {
    const port = await smtpServer();
    await expect(mailer(port).send(id, { ...mail, to: '' })).rejects.toThrow(PermanentMailError);
  });

  it.each([421, 450, 451, 452])('a deferral (%i) is transient', async (code) => {
    const port = await smtpServer({ onRcptTo: (_a, _s, callback) => callback(refusal(code, 'later')) });
    const sending = mailer(port).send(id, mail);
    await expect(sending).rejects.toThrow(TransientMailError);
    await expect(sending).rejects.toThrow(String(code));
  });

  it('a refused login is transient: it says nothing about the e-mail', async () => {
    const port = await smtpServer({
      disabledCommands: [],
      authOptional: false,
      allowInsecureAuth: true,
      onAuth: (_a, _s, callback) => callback(refusal(535, 'wrong password')),
    });
    const sending = mailer(port, { url: `smtp://user:secret@127.0.0.1:${port}` }).send(id, mail);
    await expect(sending).rejects.toThrow(TransientMailError);
    await expect(sending).rejects.toThrow('535');
  });

  it('a refused connection is transient', async () => {
    const port = await plainServer(() => undefined);
    await closers.pop()?.();
    const sending = mailer(port).send(id, mail);
    await expect(sending).rejects.toThrow(TransientMailError);
    await expect(sending).rejects.toThrow('ECONNREFUSED');
  });

  it('a connection that breaks is transient', async () => {
    const broken = await plainServer((socket) => {
      socket.write('220 ready\r\n');
      socket.once('data', () => socket.destroy());
    });
    await expect(mailer(broken).send(id, mail)).rejects.toThrow(TransientMailError);
  });

  it('a server that falls silent is transient after the time limit of an answer', async () => {
    const silent = await plainServer(() => undefined);
    await expect(mailer(silent, { answerTimeoutMs: 100 }).send(id, mail)).rejects.toThrow(TransientMailError);
  });

  it('a server that answers but never ends is transient after the time limit of the e-mail', async () => {
    const trickling = await plainServer((socket) => {
      const timer = setInterval(() => socket.write('220-wait\r\n'), 20);
      socket.once('close', () => clearInterval(timer));
    });
    const sending = mailer(trickling, { sendTimeoutMs: 200 }).send(id, mail);
    await expect(sending).rejects.toThrow(TransientMailError);
    await expect(sending).rejects.toThrow('not sent within 200 ms');
  });

  it('goes on with the next e-mail after a refusal', async () => {
    const port = await smtpServer({
      onRcptTo: ({ address }, _, callback) =>
        address.startsWith('nobody') ? callback(refusal(550, 'no such user')) : callback(),
    });
    const sender = mailer(port, { connections: 1 });
    await expect(sender.send(id, { ...mail, to: 'nobody@example.com' })).rejects.toThrow(PermanentMailError);
    await expect(sender.send(id, mail)).resolves.toBe(`<${id}@mail.example>`);
  });

  it('stays in plain text on smtp:// even when the server offers STARTTLS', async () => {
    const secure: boolean[] = [];
    const port = await smtpServer({
      onMailFrom: (_address, session, callback) => {
        secure.push(session.secure);
        callback();
      },
    });
    await mailer(port).send(id, mail);
    expect(secure).toEqual([false]);
  });

  it.each([
    ['smtps://', true],
    ['smtp://…?requireTLS=true', false],
  ])('speaks TLS on %s', async (_, implicit) => {
    const secure: boolean[] = [];
    const port = await smtpServer({
      secure: implicit,
      onMailFrom: (_address, session, callback) => {
        secure.push(session.secure);
        callback();
      },
    });
    const base = implicit ? `smtps://127.0.0.1:${port}?` : `smtp://127.0.0.1:${port}?requireTLS=true&`;
    await mailer(port, { url: `${base}tls.rejectUnauthorized=false` }).send(id, mail);
    expect(secure).toEqual([true]);
  });
});
