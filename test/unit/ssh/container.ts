import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { delimiter, join } from 'node:path';
import { generateKeyPair, knownHostsLine } from '../../../src/ssh/keys.ts';
import { createContainerSshServer } from '../../../src/ssh/server.ts';
import { type HostTransport, hostTransport } from '../../support/host-transport.ts';

/** Whether a program is installed: OpenSSH's own programs are not part of what tsv needs. */
export const has = (...programs: string[]): boolean =>
  programs.every((name) => (process.env.PATH ?? '').split(delimiter).some((dir) => existsSync(join(dir, name))));

export interface Ended {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Runs a program with bytes on stdin to its end. */
export function runWith(argv: readonly string[], input: Buffer | string = '', cwd?: string): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0] ?? '', argv.slice(1), { cwd, stdio: ['pipe', 'pipe', 'pipe'] });
    const stdout: Buffer[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout: Buffer.concat(stdout), stderr }));
  });
}

export interface Container {
  readonly dir: string;
  readonly port: number;
  readonly transport: HostTransport;
  readonly hostKey: string;
  readonly loginKey: string;
  /** Options that make ssh, scp, sftp and rsync -e trust this server and no configuration of the user. */
  readonly options: string[];
  readonly sockets: Set<Socket>;
  ssh(...args: string[]): Promise<Ended>;
  sshWith(input: Buffer | string, ...args: string[]): Promise<Ended>;
  stop(): Promise<void>;
}

/** A "container" that is the host itself, behind our SSH server on a port of 127.0.0.1. */
export async function startContainer(): Promise<Container> {
  const dir = mkdtempSync(join(tmpdir(), 'tsv-ssh-'));
  const host = generateKeyPair('host');
  const login = generateKeyPair('login');
  const transport = hostTransport(dir);
  const user = userInfo().username;
  const ssh = await createContainerSshServer({
    hostKey: host.privateKey,
    authorizedKey: login.publicKey,
    transport,
    defaultUser: user,
  });
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    void ssh.accept(socket).then(() => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const identity = join(dir, 'id');
  const known = join(dir, 'known_hosts');
  writeFileSync(identity, login.privateKey, { mode: 0o600 });
  writeFileSync(known, knownHostsLine(['box'], host.publicKey));
  const set = {
    Port: port,
    HostName: '127.0.0.1',
    HostKeyAlias: 'box',
    User: user,
    IdentityFile: identity,
    IdentitiesOnly: 'yes',
    UserKnownHostsFile: known,
    GlobalKnownHostsFile: '/dev/null',
    StrictHostKeyChecking: 'yes',
    BatchMode: 'yes',
    LogLevel: 'ERROR',
  };
  const options = ['-F', '/dev/null', ...Object.entries(set).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
  return {
    dir,
    port,
    transport,
    hostKey: host.publicKey,
    loginKey: login.privateKey,
    options,
    sockets,
    ssh: (...args) => runWith(['ssh', ...options, ...args]),
    sshWith: (input, ...args) => runWith(['ssh', ...options, ...args], input),
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
