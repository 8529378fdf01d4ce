import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import type { Transport } from '../../../src/model/provider.ts';
import { connectSsh, type SshTarget } from '../../../src/ssh/client.ts';
import { generateKeyPair, type KeyPair } from '../../../src/ssh/keys.ts';

const program = '/usr/sbin/sshd';
export const hasSshd = existsSync(program);

export interface Sshd {
  readonly dir: string;
  readonly host: KeyPair;
  readonly login: KeyPair;
  readonly sockets: Socket[];
  target(changes?: Partial<SshTarget>): SshTarget;
  connect(changes?: Partial<SshTarget>): Promise<Transport>;
  stop(): void;
}

/** A real sshd for this user. It serves each connection on stdin and stdout (`sshd -i`), so it needs no port. */
export function startSshd(extra: readonly string[] = []): Sshd {
  const dir = mkdtempSync(join(tmpdir(), 'tsv-sshd-'));
  const host = generateKeyPair('host');
  const login = generateKeyPair('login');
  writeFileSync(join(dir, 'host'), host.privateKey, { mode: 0o600 });
  writeFileSync(join(dir, 'authorized_keys'), `${login.publicKey}\n`);
  chmodSync(dir, 0o755);
  if (userInfo().uid === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 }); // sshd's own chroot
  const config = [
    ...extra,
    `HostKey ${join(dir, 'host')}`,
    `AuthorizedKeysFile ${join(dir, 'authorized_keys')}`,
    `SetEnv HOME=${dir}`, // else bash runs this user's .bashrc
    'StrictModes no',
    'UsePAM no',
    'PermitRootLogin prohibit-password',
    'PasswordAuthentication no',
    'Subsystem sftp internal-sftp',
    'LogLevel QUIET',
    'PidFile none',
  ];
  writeFileSync(join(dir, 'config'), `${config.join('\n')}\n`);
  const running: ChildProcess[] = [];
  const sockets: Socket[] = [];

  const open = async (): Promise<Socket> => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const served = new Promise<Socket>((resolve) => server.once('connection', resolve));
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    const other = await served;
    server.close();
    // sshd gets the accepted socket itself, as from inetd.
    const child = spawn(program, ['-i', '-e', '-f', join(dir, 'config')], {
      stdio: [other, other, 'ignore'],
    });
    child.once('spawn', () => other.destroy());
    running.push(child);
    sockets.push(socket);
    return socket;
  };

  const target = (changes: Partial<SshTarget> = {}): SshTarget => ({
    open,
    username: userInfo().username,
    privateKey: login.privateKey,
    hostKey: host.publicKey,
    timeoutMs: 10_000,
    signal: new AbortController().signal,
    ...changes,
  });
  return {
    dir,
    host,
    login,
    sockets,
    target,
    connect: (changes) => connectSsh(target(changes)),
    stop() {
      for (const socket of sockets) socket.destroy();
      for (const child of running) child.kill();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
