import { simpleParser } from 'mailparser';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';
import { buffer } from 'node:stream/consumers';
import type { MailFault } from './mail-error.js';
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
  // A client that goes away in the middle is what some of these specs are about.
  server.on('error', () => undefined);
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

  const atRecipient = (code: number, text = 'no') => ({
    onRcptTo: ((_a, _s, cb) => cb(refusal(code, text))) satisfies SMTPServerOptions['onRcptTo'],
  });
  const atSender = (code: number, text = 'no') => ({
    onMailFrom: ((_a, _s, cb) => cb(refusal(code, text))) satisfies SMTPServerOptions['onMailFrom'],
  });
  const atContent = (code: number, text = 'no') => ({
    onData: ((stream, _, cb) => {
      stream.resume();
      stream.on('end', () => cb(refusal(code, text)));
    }) satisfies SMTPServerOptions['onData'],
  });
  const atConnection = (code: number, text = 'no') => ({
    onConnect: ((_, cb) => cb(refusal(code, text))) satisfies SMTPServerOptions['onConnect'],
  });

  it.each([
    ['recipient', 'RCPT 550', atRecipient(550, 'no such user')],
    ['recipient', 'RCPT 550 5.1.1', atRecipient(550, '5.1.1 mailbox unknown')],
    ['recipient', 'RCPT 552 5.2.2', atRecipient(552, '5.2.2 mailbox full')],
    ['recipient', 'RCPT 553', atRecipient(553, 'mailbox name not allowed')],
    ['recipient', 'DATA 550 5.1.1', atContent(550, '5.1.1 mailbox unknown')],
    ['content', 'DATA 554', atContent(554, 'looks like spam')],
    ['content', 'DATA 554 5.7.1', atContent(554, '5.7.1 message contains spam')],
    ['content', 'DATA 552 5.3.4', atContent(552, '5.3.4 message too big')],
    ['set-up', 'RCPT 554 5.7.1, relaying', atRecipient(554, '5.7.1 <ada@example.com>: Relay access denied')],
    ['set-up', 'RCPT 550, relaying in words', atRecipient(550, 'relay not permitted')],
    ['set-up', 'RCPT 530', atRecipient(530, '5.7.0 Authentication required')],
    ['set-up', 'RCPT 550 5.1.8', atRecipient(550, '5.1.8 sender domain does not exist')],
    ['set-up', 'RCPT 554 without a status', atRecipient(554, 'transaction failed')],
    ['set-up', 'RCPT 550 5.4.1', atRecipient(550, '5.4.1 no route')],
    ['set-up', 'MAIL 530', atSender(530, '5.7.0 Must issue a STARTTLS command first')],
    ['set-up', 'MAIL 553', atSender(553, 'sender not allowed')],
    ['set-up', 'MAIL 550 5.7.26', atSender(550, '5.7.26 unauthenticated sender')],
    ['set-up', 'DATA 550 5.7.26', atContent(550, '5.7.26 this mail has no valid DMARC')],
    ['set-up', 'greeting 554', atConnection(554, 'you are blocked')],
    ['temporary', 'RCPT 450', atRecipient(450, '4.2.0 greylisted, come back in 5 minutes')],
    ['temporary', 'RCPT 421', atRecipient(421, 'shutting down')],
    ['temporary', 'RCPT 451', atRecipient(451)],
    ['temporary', 'RCPT 452', atRecipient(452, '4.2.2 mailbox full')],
    ['temporary', 'MAIL 421', atSender(421, '4.7.0 too many connections')],
    ['temporary', 'DATA 451', atContent(451, '4.3.0 try again')],
    ['temporary', 'greeting 421', atConnection(421, 'come back later')],
  ] as [MailFault, string, SMTPServerOptions][])('it is a fault of %s: %s', async (fault, _, options) => {
    await expect(mailer(await smtpServer(options)).send(id, mail)).rejects.toMatchObject({ fault });
  });

  it('an address that is none is a fault of the recipient', async () => {
    const port = await smtpServer();
    await expect(mailer(port).send(id, { ...mail, to: '' })).rejects.toMatchObject({ fault: 'recipient' });
  });

  it('a refused login is a fault of the set-up', async () => {
    const port = await smtpServer({
      disabledCommands: [],
      authOptional: false,
      allowInsecureAuth: true,
      onAuth: (_a, _s, callback) => callback(refusal(535, 'wrong password')),
    });
    const sending = mailer(port, { url: `smtp://user:secret@127.0.0.1:${port}` }).send(id, mail);
    await expect(sending).rejects.toMatchObject({ fault: 'set-up', message: expect.stringContaining('535') });
  });

  it('a certificate that nobody vouches for, and a server without STARTTLS, are faults of the set-up', async () => {
    const port = await smtpServer({ secure: true });
    const untrusted = mailer(port, { url: `smtps://127.0.0.1:${port}` }).send(id, mail);
    await expect(untrusted).rejects.toMatchObject({ fault: 'set-up' });
    const plain = await smtpServer({ disabledCommands: ['AUTH', 'STARTTLS'] });
    const required = mailer(plain, { url: `smtp://127.0.0.1:${plain}?requireTLS=true` }).send(id, mail);
    await expect(required).rejects.toMatchObject({ fault: 'set-up' });
  });

  it('a server that is not there is a fault of the set-up, and one whose name is unknown', async () => {
    const port = await plainServer(() => undefined);
    await closers.pop()?.();
    const away = mailer(port).send(id, mail);
    await expect(away).rejects.toMatchObject({ fault: 'set-up', message: expect.stringContaining('ECONNREFUSED') });
    const unknown = mailer(port, { url: 'smtp://mail.invalid:25' }).send(id, mail);
    await expect(unknown).rejects.toMatchObject({ fault: 'set-up' });
  });

  it('a connection that breaks is temporary', async () => {
    const broken = await plainServer((socket) => {
      socket.write('220 ready\r\n');
      socket.once('data', () => socket.destroy());
    });
    await expect(mailer(broken).send(id, mail)).rejects.toMatchObject({ fault: 'temporary' });
  });

  it('a server that falls silent is temporary after the time limit of an answer', async () => {
    const silent = await plainServer(() => undefined);
    await expect(mailer(silent, { answerTimeoutMs: 100 }).send(id, mail)).rejects.toMatchObject({ fault: 'temporary' });
  });

  it('a server that answers but never ends is temporary after the time limit of the e-mail', async () => {
    const trickling = await plainServer((socket) => {
      const timer = setInterval(() => socket.write('220-wait\r\n'), 20);
      socket.once('close', () => clearInterval(timer));
    });
    const sending = mailer(trickling, { sendTimeoutMs: 200 }).send(id, mail);
    await expect(sending).rejects.toMatchObject({ fault: 'temporary' });
    await expect(sending).rejects.toThrow('not sent within 200 ms');
  });

  it('goes on with the next e-mail after a refusal', async () => {
    const port = await smtpServer({
      onRcptTo: ({ address }, _, callback) =>
        address.startsWith('nobody') ? callback(refusal(550, 'no such user')) : callback(),
    });
    const sender = mailer(port, { connections: 1 });
    await expect(sender.send(id, { ...mail, to: 'nobody@example.com' })).rejects.toMatchObject({ fault: 'recipient' });
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
