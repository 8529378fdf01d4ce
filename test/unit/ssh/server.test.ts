import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sshConfig } from '../../../src/ssh/config.ts';
import { generateKeyPair, knownHostsLine } from '../../../src/ssh/keys.ts';
import { type Container, has, runWith, startContainer } from './container.ts';

let box: Container;
beforeAll(async () => {
  box = await startContainer();
});
afterAll(() => box.stop());

const sha = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

describe.skipIf(!has('ssh'))('the SSH server for containers, used by the real ssh', () => {
  it('gives back stdout, stderr and the exit code of a command', async () => {
    const ended = await box.ssh('box', 'echo out; echo err >&2; exit 37');
    expect(ended).toEqual({ code: 37, stdout: Buffer.from('out\n'), stderr: 'err\n' });
  });

  it('runs the command line through /bin/sh as it was typed', async () => {
    const ended = await box.ssh('box', `printf '%s|' 'a b' "it's" '$(id)' '*'`);
    expect(ended.stdout.toString()).toBe("a b|it's|$(id)|*|");
  });

  it('reports death by a signal, which ssh shows as exit code 255', async () => {
    const ended = await box.ssh('-v', 'box', 'kill -TERM $$');
    expect(ended.code).toBe(255);
    expect(ended.stderr).toContain('exit-signal');
  });

  it('passes bytes through stdin and stdout unchanged and ends stdin', async () => {
    const data = randomBytes(3_000_001);
    const ended = await box.sshWith(data, 'box', 'cat');
    expect(ended.code).toBe(0);
    expect(sha(ended.stdout)).toBe(sha(data));
  });

  it('streams 64 MB each way at once, byte for byte', async () => {
    const data = randomBytes(64 << 20);
    const ended = await box.sshWith(data, 'box', 'cat');
    expect(sha(ended.stdout)).toBe(sha(data));
  }, 60_000);

  it('changes keys in the middle of a stream', async () => {
    const data = randomBytes(4 << 20);
    const ended = await box.sshWith(data, '-o', 'RekeyLimit=1M', 'box', 'cat');
    expect(sha(ended.stdout)).toBe(sha(data));
  });

  it('gives a terminal of the size of the client, and starts the login shell in it', async () => {
    const login = await box.sshWith('test -t 0 && echo terminal; echo "login-$0-$USER"; exit 5\n', '-tt', 'box');
    expect(login.stdout.toString()).toContain('terminal');
    expect(login.code).toBe(5);
    const pty = box.transport.requests.at(-1)?.pty;
    expect(pty?.cols).toBeGreaterThan(0);
    expect(pty?.term).not.toBe('');
  });

  it('takes LANG and LC_* from the client and nothing else', async () => {
    const ended = await box.ssh(
      ...['-o', 'SetEnv=LC_ALL=C.UTF-8 LD_PRELOAD=/evil.so LC_MESSAGES=C', 'box'],
      'echo "$LC_ALL $LC_MESSAGES <$LD_PRELOAD>"',
    );
    expect(ended.stdout.toString()).toBe('C.UTF-8 C <>\n');
  });

  it('refuses every key but its own, and passwords', async () => {
    const other = join(box.dir, 'other');
    writeFileSync(other, generateKeyPair('other').privateKey, { mode: 0o600 });
    const options = box.options.map((word) => (word.startsWith('IdentityFile=') ? `IdentityFile=${other}` : word));
    const ended = await runWith(['ssh', ...options, 'box', 'true']);
    expect(ended.code).toBe(255);
    expect(ended.stderr).toContain('Permission denied (publickey)');
  });

  it('is refused by ssh when its host key is not the known one', async () => {
    const known = join(box.dir, 'other_known_hosts');
    writeFileSync(known, knownHostsLine(['box'], generateKeyPair('').publicKey));
    const ended = await box.ssh('-o', `UserKnownHostsFile=${known}`, 'box', 'true');
    // The first value of an option holds, so put ours in front.
    const first = await runWith(['ssh', '-o', `UserKnownHostsFile=${known}`, ...box.options, 'box', 'true']);
    expect(ended.code).toBe(0);
    expect(first.code).toBe(255);
    expect(first.stderr).toContain('Host key verification failed');
  });

  it('tells the client when there is no such user', async () => {
    const ended = await runWith(['ssh', '-l', 'nobody-at-all', ...box.options, 'box', 'true']);
    expect(ended).toMatchObject({ code: 255, stderr: 'tsv: no user nobody-at-all in the machine\r\n' });
  });

  it('hangs up what runs when the client is killed', async () => {
    const pidFile = join(box.dir, 'hangup.pid');
    const child = spawn('ssh', [...box.options, 'box', `echo $$ >${pidFile}; echo up; exec sleep 1000`]);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const pid = Number(readFileSync(pidFile, 'utf8'));
    expect(() => process.kill(pid, 0)).not.toThrow();
    child.kill('SIGKILL');
    await expect.poll(() => statOf(pid)).toBe('gone');
  });

  it('lets a client go whose command left a background process holding its output', async () => {
    const ended = await box.ssh('box', 'sleep 1000 & echo $!');
    process.kill(Number(ended.stdout.toString()), 'SIGKILL');
    expect(ended.code).toBe(0);
  });

  it('ends a program whose output nobody reads any more', async () => {
    const pidFile = join(box.dir, 'yes.pid');
    const ended = await runWith([
      ...['sh', '-c', 'n=$1; shift; ssh "$@" | head -n 1', 'sh', '1'],
      ...[...box.options, 'box', `echo $$ >${pidFile}; exec yes`],
    ]);
    expect(ended.stdout.toString()).toBe('y\n');
    expect(statOf(Number(readFileSync(pidFile, 'utf8')))).toBe('gone');
  });

  it('holds memory down while a client is slow to read 200 MB', async () => {
    const before = process.memoryUsage.rss();
    let most = 0;
    const child = spawn('ssh', [...box.options, 'box', 'head -c 209715200 /dev/zero'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let bytes = 0;
    for await (const chunk of child.stdout) {
      bytes += (chunk as Buffer).length;
      most = Math.max(most, process.memoryUsage.rss());
    }
    expect(bytes).toBe(200 << 20);
    expect(most - before).toBeLessThan(120 << 20);
  }, 60_000);

  it('carries 100 sessions on one connection', async () => {
    const control = join(box.dir, 'ctl');
    const master = spawn('ssh', [...box.options, '-M', '-S', control, '-N', 'box'], { stdio: 'ignore' });
    await expect
      .poll(async () => (await box.ssh('-S', control, '-O', 'check', 'box')).code, { timeout: 10_000 })
      .toBe(0);
    const all = await Promise.all(
      Array.from({ length: 100 }, (_, i) => box.ssh('-S', control, 'box', `echo ${i}; exit ${i}`)),
    );
    master.kill();
    expect(all.map(({ code, stdout }) => `${code} ${stdout}`)).toEqual(all.map((_, i) => `${i} ${i}\n`));
    expect(box.sockets.size).toBeLessThan(3);
  }, 60_000);

  it('forwards connections to ports of the machine, half-closed and back, and to nowhere else', async () => {
    // Answers only after the client has ended its side.
    const echo = createServer({ allowHalfOpen: true }, (socket) => {
      const chunks: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => socket.end(Buffer.concat(chunks)));
    });
    await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
    const { port } = echo.address() as AddressInfo;
    const data = randomBytes(1_000_000);
    const through = await box.sshWith(data, '-W', `localhost:${port}`, 'box');
    expect(sha(through.stdout)).toBe(sha(data));
    const elsewhere = await box.sshWith('', '-W', '192.0.2.1:80', 'box');
    expect(elsewhere.code).toBe(255);
    const closed = await box.sshWith('', '-W', '127.0.0.1:1', 'box');
    expect(closed.code).toBe(255);
    await new Promise((resolve) => echo.close(resolve));
  });

  it('refuses ports on the client’s behalf (-R) and foreign subsystems', async () => {
    const back = await box.ssh('-o', 'ExitOnForwardFailure=yes', '-R', '0:127.0.0.1:1', 'box', 'true');
    expect(back.code).toBe(255);
    const subsystem = await box.ssh('-s', 'box', 'netconf');
    expect(subsystem.code).not.toBe(0);
  });
});

function statOf(pid: number): 'there' | 'gone' {
  try {
    process.kill(pid, 0);
    return 'there';
  } catch {
    return 'gone';
  }
}

describe.skipIf(!has('ssh', 'scp', 'sftp'))('copying through the SSH server', () => {
  const tree = (dir: string): string => {
    mkdirSync(join(dir, 'sub dir'), { recursive: true });
    writeFileSync(join(dir, 'a'), randomBytes(100_000), { mode: 0o640 });
    writeFileSync(join(dir, 'sub dir', "it's"), randomBytes(10), { mode: 0o755 });
    return dir;
  };
  const same = (a: string, b: string): void => {
    for (const name of ['a', "sub dir/it's"]) {
      expect(sha(readFileSync(join(b, name)))).toBe(sha(readFileSync(join(a, name))));
      expect(statSync(join(b, name)).mode).toBe(statSync(join(a, name)).mode);
    }
  };

  it.each([
    ['SFTP', '-s'],
    ['SCP', '-O'],
  ])('scp -r with the %s protocol', async (_name, flag) => {
    const from = tree(join(box.dir, `from${flag}`));
    const up = await runWith(['scp', flag, '-pr', ...box.options, from, `box:${box.dir}/up${flag}`]);
    expect(up).toMatchObject({ code: 0, stderr: '' });
    const down = await runWith([
      'scp',
      flag,
      '-pr',
      ...box.options,
      `box:${box.dir}/up${flag}`,
      join(box.dir, `down${flag}`),
    ]);
    expect(down).toMatchObject({ code: 0, stderr: '' });
    same(from, join(box.dir, `down${flag}`));
  });

  it('sftp puts and gets byte for byte', async () => {
    const file = join(box.dir, 'sftp.bin');
    writeFileSync(file, randomBytes(5_000_000));
    const batch = `put ${file} ${box.dir}/sftp.up\nget ${box.dir}/sftp.up ${box.dir}/sftp.down\n`;
    const ended = await runWith(['sftp', ...box.options, '-b', '-', 'box'], batch);
    expect(ended.code).toBe(0);
    expect(sha(readFileSync(join(box.dir, 'sftp.down')))).toBe(sha(readFileSync(file)));
  });

  it.skipIf(!has('rsync'))('rsync -a there and back', async () => {
    const from = tree(join(box.dir, 'rsync-from'));
    symlinkSync('a', join(from, 'link'));
    const remote = ['rsync', '-a', '-e', ['ssh', ...box.options].join(' ')];
    expect(await runWith([...remote, `${from}/`, `box:${box.dir}/rsync-up/`])).toMatchObject({ code: 0, stderr: '' });
    expect(await runWith([...remote, `box:${box.dir}/rsync-up/`, join(box.dir, 'rsync-down/')])).toMatchObject({
      code: 0,
    });
    same(from, join(box.dir, 'rsync-down'));
  });

  it('works through the printed configuration, with spaces and quotes in the paths', async () => {
    const odd = join(box.dir, `it's a "100%" folder`);
    mkdirSync(odd);
    writeFileSync(join(odd, 'id'), box.loginKey, { mode: 0o600 });
    writeFileSync(join(odd, 'known'), knownHostsLine(['web-1.shop'], box.hostKey));
    const pipe = join(odd, 'pipe.cjs');
    writeFileSync(
      pipe,
      `const s=require('net').connect(+process.argv[2],'127.0.0.1');process.stdin.pipe(s).pipe(process.stdout)`,
    );
    const file = join(odd, 'config');
    const machine = {
      name: 'web-1',
      user: box.transport.requests.at(-1)?.user ?? '',
      identityFile: join(odd, 'id'),
      knownHostsFile: join(odd, 'known'),
      proxyCommand: [process.execPath, pipe, String(box.port)],
    };
    writeFileSync(file, sshConfig({ project: 'shop', machines: [machine] }));
    for (const name of ['web-1', 'web-1.shop']) {
      expect(await runWith(['ssh', '-F', file, name, 'echo yes'])).toMatchObject({ code: 0, stderr: '' });
    }
  });
});
