import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { Duplex, PassThrough, Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ExecRequest, Transport } from '../../../src/model/provider.ts';
import { connectSsh } from '../../../src/ssh/client.ts';
import { fingerprint, generateKeyPair } from '../../../src/ssh/keys.ts';
import { processRef } from '../../../src/sys/process.ts';
import { until } from '../../support/until.ts';
import { hasSshd, type Sshd, startSshd } from './sshd.ts';

const me = userInfo();
/** sshd makes a terminal its user's own, which takes root. */
const terminals = me.uid === 0;
const sha = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

async function all(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function run(transport: Transport, request: ExecRequest, input: Buffer | string = '') {
  const session = await transport.exec({ user: me.username, ...request });
  session.stdin.end(input);
  const [stdout, stderr, result] = await Promise.all([all(session.stdout), all(session.stderr), session.exited]);
  return { stdout, stderr: stderr.toString(), ...result };
}

describe('connecting', () => {
  const { signal } = new AbortController();
  const keys = { username: 'x', privateKey: generateKeyPair('').privateKey, hostKey: generateKeyPair('').publicKey };

  it('says that nothing answered in time', async () => {
    const silent = async () => new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    const attempt = connectSsh({ ...keys, open: silent, timeoutMs: 50, signal });
    await expect(attempt).rejects.toMatchObject({ code: 'TSV_SSH', details: ['no answer within 0.05 s'] });
  });

  it('stops waiting for the stream itself', async () => {
    const never = () => new Promise<Duplex>(() => {});
    await expect(connectSsh({ ...keys, open: never, timeoutMs: 50, signal })).rejects.toMatchObject({
      code: 'TSV_SSH',
    });
    const abort = new AbortController();
    const attempt = connectSsh({ ...keys, open: never, timeoutMs: 60_000, signal: abort.signal });
    abort.abort();
    await expect(attempt).rejects.toMatchObject({ code: 'TSV_CANCELLED' });
  });

  it('keeps why the stream could not be opened', async () => {
    const refused = () => Promise.reject(new Error('connect ECONNREFUSED'));
    const attempt = connectSsh({ ...keys, open: refused, timeoutMs: 1000, signal });
    await expect(attempt).rejects.toMatchObject({ code: 'TSV_SSH', details: ['connect ECONNREFUSED'] });
  });

  it('says that what answered is no SSH server', async () => {
    const web = async () =>
      Duplex.from({
        readable: Readable.from(['HTTP/1.0 400 Bad Request\r\n\r\n']),
        writable: new PassThrough().resume(),
      });
    const attempt = connectSsh({ ...keys, open: web, timeoutMs: 5000, signal });
    await expect(attempt).rejects.toMatchObject({
      code: 'TSV_SSH',
      message: 'the SSH handshake with the machine failed',
    });
  });
});

describe.skipIf(!hasSshd)('the SSH client, against a real sshd', () => {
  let sshd: Sshd;
  let machine: Transport;
  beforeAll(async () => {
    sshd = startSshd();
    machine = await sshd.connect();
  });
  afterAll(() => {
    machine.close();
    sshd.stop();
  });

  it('refuses a server whose host key is not the pinned one, and shows both', async () => {
    const other = generateKeyPair('').publicKey;
    await expect(sshd.connect({ hostKey: other })).rejects.toMatchObject({
      code: 'TSV_HOST_KEY',
      details: [`pinned: ssh-ed25519 ${fingerprint(other)}`, `shown:  ${fingerprint(sshd.host.publicKey)}`],
    });
  });

  it('says that the key was refused', async () => {
    const attempt = sshd.connect({ privateKey: generateKeyPair('').privateKey });
    await expect(attempt).rejects.toMatchObject({ code: 'TSV_SSH', message: expect.stringContaining('does not let') });
  });

  it('gives back both outputs and the exit code', async () => {
    const ended = await run(machine, { argv: ['sh', '-c', 'echo out; echo err >&2; exit 37'] });
    expect(ended).toEqual({ code: 37, stdout: Buffer.from('out\n'), stderr: 'err\n' });
  });

  it('gives back the signal that killed the program', async () => {
    expect(await run(machine, { argv: ['sh', '-c', 'kill -USR1 $$'] })).toMatchObject({ code: 138, signal: 'USR1' });
  });

  it('hands every argument and variable over as it is', async () => {
    const odd = [
      '',
      'a b',
      "it's",
      '"',
      '$(id)',
      '`id`',
      '\\',
      '\n',
      'a\n\nb\n',
      '*',
      '-n',
      '#',
      '!',
      '\x81\x88\u{1f600}ä',
      '~',
      '\t',
      '$HOME',
    ];
    const script = 'for a; do printf "%s\\0" "$a"; done; printf "%s" "$ODD"';
    const env = { ODD: odd.join('|') };
    const ended = await run(machine, { argv: ['sh', '-c', script, 'sh', ...odd], env });
    expect(ended.stdout.toString()).toBe(`${odd.join('\0')}\0${env.ODD}`);
  });

  it('runs a script for sh like any program', async () => {
    const script = 'echo "$0 $# $1"; p=$(cat)\necho "$p"; echo \'to stderr\' >&2; exit 3';
    const argv = ['/bin/sh', '-c', script, 'sh', "a 'b'\nc", '-x'];
    const result = await run(machine, { argv }, 'in\nput');
    expect(result).toMatchObject({ code: 3, stderr: 'to stderr\n' });
    expect(result.stdout.toString()).toBe("sh 2 a 'b'\nc\nin\nput\n");
    const own = await run(machine, { argv: ['/bin/sh', '-c', 'echo "$a$g$l$n$p"', 'sh'] });
    expect(own.stdout.toString(), 'the variables of its loader').toBe('\n');
    expect(await run(machine, { argv: ['/bin/sh', '-c', 'kill -s KILL $$', 'sh'] })).toMatchObject({ code: 137 });
    expect(await run(machine, { argv: ['/bin/sh', '-c', 'echo "$n" $#', 'sh'], env: { n: 'an n' } })).toMatchObject({
      code: 0,
      stdout: Buffer.from('an n 0\n'),
    });
  });

  it('starts in the home folder, or in the asked one, or says that there is none', async () => {
    expect((await run(machine, { argv: ['pwd'] })).stdout.toString()).toBe(`${sshd.dir}\n`);
    expect((await run(machine, { argv: ['pwd'], cwd: '/usr/bin' })).stdout.toString()).toBe('/usr/bin\n');
    expect(await run(machine, { argv: ['pwd'], cwd: '/no/such' })).toMatchObject({ code: 126 });
    expect(await run(machine, { argv: ['no-such-program'] })).toMatchObject({ code: 127 });
  });

  it('streams 64 MB each way at once, byte for byte', async () => {
    const data = randomBytes(64 << 20);
    const ended = await run(machine, { argv: ['cat'] }, data);
    expect(sha(ended.stdout)).toBe(sha(data));
  }, 60_000);

  it('goes on while sshd changes the keys', async () => {
    const busy = startSshd(['RekeyLimit 1M']);
    const transport = await busy.connect();
    const data = randomBytes(5 << 20);
    expect(sha((await run(transport, { argv: ['cat'] }, data)).stdout)).toBe(sha(data));
    transport.close();
    await transport.closed;
    busy.stop();
  });

  it('holds memory down while the reader is slow', async () => {
    const before = process.memoryUsage.rss();
    const session = await machine.exec({ user: me.username, argv: ['head', '-c', String(200 << 20), '/dev/zero'] });
    session.stdin.end();
    session.stderr.resume();
    let bytes = 0;
    let most = 0;
    for await (const chunk of session.stdout) {
      bytes += (chunk as Buffer).length;
      most = Math.max(most, process.memoryUsage.rss());
      if (bytes % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(bytes).toBe(200 << 20);
    expect(most - before).toBeLessThan(120 << 20);
  }, 60_000);

  it('runs 100 programs at once on the one connection, though sshd takes 10', async () => {
    const results = await Promise.all(
      Array.from({ length: 100 }, (_, i) => run(machine, { argv: ['sh', '-c', `echo ${i}; exit ${i}`] })),
    );
    expect(results.map(({ code, stdout }) => `${code} ${stdout}`)).toEqual(results.map((_, i) => `${i} ${i}\n`));
  }, 60_000);

  it('finds its bound when sshd takes fewer sessions', async () => {
    const small = startSshd(['MaxSessions 2']);
    const transport = await small.connect();
    const results = await Promise.all(
      Array.from({ length: 12 }, (_, i) => run(transport, { argv: ['echo', String(i)] })),
    );
    expect(results.map(({ code }) => code)).toEqual(results.map(() => 0));
    transport.close();
    small.stop();
  }, 30_000);

  it('keeps the values of variables out of every command line, with and without a terminal', async () => {
    const secret = `secret-${randomBytes(8).toString('hex')}`;
    for (const pty of [undefined, ...(terminals ? [{ cols: 80, rows: 24, term: 'xterm' }] : [])]) {
      const session = await machine.exec({
        user: me.username,
        argv: ['sh', '-c', 'printf %s "$SECRET"; read -r _'],
        env: { SECRET: secret },
        ...(pty === undefined ? {} : { pty }),
      });
      let seen = '';
      for await (const chunk of session.stdout) {
        seen += String(chunk);
        if (!seen.includes(secret)) continue;
        const lines = readdirSync('/proc')
          .filter((name) => /^\d+$/.test(name))
          .map(commandLine);
        expect(lines.filter((line) => line.includes(secret))).toEqual([]);
        session.stdin.end('\n');
      }
      expect(seen).toContain(secret);
      await session.exited;
    }
    expect(
      readdirSync('/tmp')
        .filter((name) => name.startsWith('tmp.'))
        .map((name) => readSafe(join('/tmp', name)))
        .filter((text) => text.includes(secret)),
    ).toEqual([]);
  });

  it('ends the whole process group with a signal, also after stdin has ended', async () => {
    const session = await machine.exec({ user: me.username, argv: ['sh', '-c', 'sleep 1000 & echo $!; wait'] });
    session.stdin.end();
    session.stderr.resume();
    let pid = '';
    for await (const chunk of session.stdout) {
      pid += String(chunk);
      if (pid.endsWith('\n')) session.signal('TERM');
    }
    expect(await session.exited).toEqual({ code: 143, signal: 'TERM' });
    await expect.poll(() => processRef(Number(pid))).toBeUndefined();
  });

  it('does not wait for a background process that holds the output', async () => {
    const ended = await run(machine, { argv: ['sh', '-c', 'sleep 1000 & echo $!'] });
    process.kill(Number(ended.stdout.toString()));
    expect(ended.code).toBe(0);
  });

  it.skipIf(!terminals)('gives a terminal of the asked size and resizes it', async () => {
    const script = `trap 'stty size; exit 9' WINCH; test -t 0 && echo "$TERM" && stty size; while :; do sleep 0.05; done`;
    const session = await machine.exec({
      user: me.username,
      argv: ['sh', '-c', script],
      pty: { cols: 91, rows: 33, term: 'vt220' },
    });
    let text = '';
    for await (const chunk of session.stdout) {
      text += String(chunk);
      if (text === 'vt220\r\n33 91\r\n') session.resize(100, 40);
    }
    expect(text).toBe('vt220\r\n33 91\r\n40 100\r\n');
    expect(await session.exited).toEqual({ code: 9 });
  });

  it('reaches a port of the machine, and says when nobody listens', async () => {
    const server = createServer((socket) => socket.end('hello'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const stream = await machine.dial((server.address() as AddressInfo).port);
    expect((await all(stream)).toString()).toBe('hello');
    stream.end();
    await new Promise((resolve) => server.close(resolve));
    await expect(machine.dial(1)).rejects.toMatchObject({
      code: 'TSV_SSH',
      message: 'no connection to port 1 of the machine',
    });
  });

  it('fails what runs when the connection breaks, and resolves closed', async () => {
    const transport = await sshd.connect();
    const session = await transport.exec({ user: me.username, argv: ['sh', '-c', 'echo $$; exec sleep 1000'] });
    session.stderr.resume();
    for await (const pid of session.stdout) {
      sshd.sockets.at(-1)?.destroy();
      process.kill(Number(pid)); // sshd leaves it running
    }
    await expect(session.exited).rejects.toMatchObject({
      code: 'TSV_SSH',
      message: expect.stringContaining('was lost'),
    });
    await transport.closed;
    await expect(transport.exec({ argv: ['true'] })).rejects.toMatchObject({ code: 'TSV_SSH' });
    await expect(transport.dial(1)).rejects.toMatchObject({ code: 'TSV_SSH' });
  });

  // Of other logins nearly everything runs as root, which sudo would have to start.
  describe.skipIf(me.uid !== 0)('the shell that waits for the next command of root', () => {
    const own: Sshd[] = [];
    afterAll(() => {
      for (const each of own) each.stop();
    });
    const connect = async (extra: string[] = []) => {
      const server = startSshd(extra);
      own.push(server);
      return { server, transport: await server.connect() };
    };
    const sessions = ({ dir }: Sshd) =>
      readdirSync('/proc').filter((pid) => readSafe(`/proc/${pid}/environ`).includes(`HOME=${dir}\0`));
    const shells = (server: Sshd) => sessions(server).filter((pid) => /^sh\0-c\0.*read -r n/.test(commandLine(pid)));
    const waiting = (server: Sshd) =>
      until('one shell waits', () => {
        const [pid, ...more] = shells(server);
        return more.length === 0 && pid;
      });
    const ownPid: ExecRequest = { argv: ['/bin/sh', '-c', 'echo $$', 'sh'] };

    it('runs it, and is followed by another one', async () => {
      const { server, transport } = await connect();
      const first = await waiting(server);
      expect(String((await run(transport, ownPid)).stdout)).toBe(`${first}\n`);
      const second = await waiting(server);
      expect(second).not.toBe(first);
      expect(String((await run(transport, ownPid)).stdout)).toBe(`${second}\n`);
    });

    it('is not used when it was killed meanwhile', async () => {
      const { server, transport } = await connect();
      const first = Number(await waiting(server));
      process.kill(first, 'SIGKILL');
      await until('sshd has seen it end', () => !existsSync(`/proc/${first}`));
      await transport.put(Buffer.from(''), join(server.dir, 'put')); // sshd answers this one behind the end
      const { code, stdout } = await run(transport, ownPid);
      expect([code, Number(stdout) > 0, Number(stdout) === first]).toEqual([0, true, false]);
    });

    it('gives its place to what needs one, and does not come back', async () => {
      const { server, transport } = await connect(['MaxSessions 1']);
      await waiting(server);
      await transport.put(Buffer.from('x'), join(server.dir, 'put'));
      expect(readFileSync(join(server.dir, 'put'), 'utf8')).toBe('x');
      expect(shells(server)).toEqual([]);
    });

    it('has ended when the connection was left, also where it takes its time to start', async () => {
      const { server, transport } = await connect(['ForceCommand sleep 0.3; eval "$SSH_ORIGINAL_COMMAND"']);
      await until('it starts', () => sessions(server).length > 0);
      await transport.leave?.();
      expect(sessions(server)).toEqual([]);
      await transport.closed;
    });
  });

  // As root the files are written over SFTP; another login needs sudo, which a test cannot ask for.
  describe.skipIf(me.uid !== 0)('files, as root', () => {
    it('puts and gets byte for byte, with mode and owner, and leaves nothing beside', async () => {
      const dir = join(sshd.dir, 'files');
      mkdirSync(dir);
      const path = join(dir, "it's a file");
      const data = randomBytes(3_333_333);
      await machine.put(Readable.from([data.subarray(0, 7), data.subarray(7)]), path, {
        mode: 0o640,
        owner: 'nobody:nogroup',
      });
      expect(sha(readFileSync(path))).toBe(sha(data));
      expect(statSync(path)).toMatchObject({ mode: 0o100640, uid: 65534, gid: 65534 });
      expect(sha(await all(await machine.get(path)))).toBe(sha(data));
      await machine.put(Buffer.from('new'), path);
      expect(readFileSync(path, 'utf8')).toBe('new');
      expect(statSync(path)).toMatchObject({ mode: 0o100644, uid: 0 });
      expect(readdirSync(dir)).toEqual(["it's a file"]);
    });

    it('leaves the old file when the new one does not come whole', async () => {
      const dir = join(sshd.dir, 'half');
      mkdirSync(dir);
      const path = join(dir, 'f');
      writeFileSync(path, 'old');
      const half = Readable.from(
        (async function* () {
          yield Buffer.from('ne');
          throw new Error('source failed');
        })(),
      );
      await expect(machine.put(half, path)).rejects.toThrow('source failed');
      await expect(machine.put(Buffer.from('x'), path, { owner: 'no-such-user' })).rejects.toThrow(/no-such-user/);
      expect(readFileSync(path, 'utf8')).toBe('old');
      expect(readdirSync(dir)).toEqual(['f']);
    });

    it('says what is in the way', async () => {
      const missing = join(sshd.dir, 'no', 'such');
      await expect(machine.put(Buffer.from(''), join(missing, 'f'))).rejects.toThrow(
        `the folder ${missing} does not exist in the machine`,
      );
      await expect(machine.put(Buffer.from(''), sshd.dir)).rejects.toThrow('it is a folder');
      await expect(machine.get(join(sshd.dir, 'nope'))).rejects.toThrow('no such file');
    });

    it('runs programs as another user, with that user’s name and home', async () => {
      const ended = await run(machine, { argv: ['sh', '-c', 'id -un; echo "$USER $HOME"'], user: 'nobody', cwd: '/' });
      expect(ended).toMatchObject({ code: 0, stdout: Buffer.from('nobody\nnobody /nonexistent\n') });
      expect((await run(machine, { argv: ['true'], user: 'nobody-at-all', cwd: '/' })).code).not.toBe(0);
      await expect(machine.exec({ argv: ['true'], user: 'a b' })).rejects.toThrow('name of a user');
    });
  });
});

function commandLine(pid: string): string {
  return readSafe(`/proc/${pid}/cmdline`);
}

function readSafe(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // gone, or a folder
  }
}
