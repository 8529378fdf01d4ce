import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished } from 'vitest';
import type { OciConfig, OciLinux, OciMount, OciNamespaceType, OciProcess, OciState } from '../../src/oci/spec.ts';
import { quote, type Result, type Running, type RunOptions, start, tsvProgram } from './cli.ts';
import { type HostProcess, listProcesses, read } from './host-processes.ts';
import { isRoot } from './root.ts';
import { until } from './until.ts';

/*
 * OCI bundles, and `tsv oci` used as anybody uses a runtime: by its command line. The root file system is busybox
 * alone.
 */

type Mutable<T> = T extends readonly (infer U)[]
  ? Mutable<U>[]
  : T extends object
    ? { -readonly [K in keyof T]: Mutable<T[K]> }
    : T;

/** A config.json that a test still changes. */
export type Draft = Mutable<OciConfig> & {
  process: Mutable<OciProcess>;
  linux: Mutable<OciLinux> & { namespaces: { type: OciNamespaceType; path?: string }[] };
  mounts: Mutable<OciMount>[];
};

/** Makes `folder` a root file system: /bin/busybox, a link for each command, and an /etc/passwd. */
export function makeRootfs(folder: string): void {
  for (const name of ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp'])
    mkdirSync(join(folder, name), { recursive: true });
  copyFileSync('/bin/busybox', join(folder, 'bin/busybox'));
  for (const name of commandNames) symlinkSync('busybox', join(folder, 'bin', name));
  writeFileSync(join(folder, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n');
  writeFileSync(join(folder, 'etc/group'), 'root:x:0:\nuser:x:1000:\n');
}

/** Of busybox's commands, those that tests use: making 269 links for each takes longer than most tests. */
const commandNames = (
  'cat chmod df env false find grep head hostname httpd id ip ls mkdir mount ps readlink rm sh sleep stat stty tail ' +
  'touch tr true tty umount uname wc wget'
).split(' ');

/** A container in every namespace that runs `args`, with the capabilities that `runc spec` gives. */
function draft(args: readonly string[], mark: string): Draft {
  const capabilities = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];
  const own = (id: number) => [{ containerID: 0, hostID: id, size: 1 }];
  return {
    ociVersion: '1.2.0',
    root: { path: 'rootfs' },
    hostname: 'box',
    process: {
      user: { uid: 0, gid: 0 },
      args: [...args],
      env: ['PATH=/bin', `OCI_TEST=${mark}`],
      cwd: '/',
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      noNewPrivileges: true,
    },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
      { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['newinstance', 'ptmxmode=0666'] },
    ],
    linux: {
      namespaces: (['pid', 'network', 'ipc', 'uts', 'mount', ...(isRoot ? [] : (['user'] as const))] as const).map(
        (type) => ({ type }),
      ),
      ...(isRoot ? {} : { uidMappings: own(process.geteuid?.() ?? 0), gidMappings: own(process.getegid?.() ?? 0) }),
    },
  };
}

/** A folder for containers' state and their bundles. Whatever becomes of the test: nothing of it is left on the host. */
export class OciHost {
  readonly dir = realpathSync(mkdtempSync(join(tmpdir(), 'tsv-oci-test-')));
  readonly root = join(this.dir, 'state');
  /** In the name and the environment of everything that belongs to this test. */
  readonly mark = `ocitest-${randomBytes(4).toString('hex')}`;
  private readonly running = new Set<Running>();
  private count = 0;

  /** A bundle that runs a line of shell, or a command. */
  container(
    command: string | readonly string[] = 'sleep 1000',
    change: (config: Draft, box: Container) => void = () => {},
  ): Container {
    const id = `${this.mark}-${++this.count}`;
    const bundle = join(this.dir, id);
    mkdirSync(bundle);
    cloneTree(template(), join(bundle, 'rootfs'));
    const container = new Container(this, id, bundle);
    const config = draft(typeof command === 'string' ? ['sh', '-c', command] : command, this.mark);
    change(config, container);
    container.write(config);
    return container;
  }

  start(args: readonly string[], options: RunOptions = {}): Running {
    return this.watched(start(this.dir, this.argv(args), options));
  }

  startOnTerminal(args: readonly string[], options: RunOptions = {}): Running {
    const line = this.argv(args).map(quote).join(' ');
    return this.watched(start(this.dir, ['script', '-qec', line, '/dev/null'], options));
  }

  /** `tsv oci --root …` to its end. */
  oci(args: readonly string[], options: RunOptions = {}): Promise<Result> {
    return this.start(args, { input: '', ...options }).result;
  }

  /** What other program it takes. It is ended with the test. */
  spawn(argv: readonly string[], options: RunOptions = {}): Running {
    return this.watched(start(this.dir, argv, options));
  }

  argv(args: readonly string[]): string[] {
    return [process.execPath, tsvProgram, 'oci', '--root', this.root, ...args];
  }

  /** Containers, processes, mounts and cgroups of this test that are there now. */
  traces(): string[] {
    const containers = list(this.root).map((id) => `container ${id}`);
    const processes = this.processes().map(({ pid, command, name }) => `process ${pid} ${command || name}`);
    const mounts = mountsOf(process.pid)
      .split('\n')
      .filter((line) => line.includes(this.dir))
      .map((line) => `mount ${line}`);
    return [...containers, ...processes, ...mounts, ...cgroupsNamed(this.mark).map((path) => `cgroup ${path}`)];
  }

  /** The kernel lets go in its own time: looks for up to 5 s. */
  async expectNothingLeft(): Promise<void> {
    let seen: string[] = [];
    const look = () => {
      seen = this.traces();
      return seen.length === 0;
    };
    await until('nothing is left behind', look, { timeoutMs: 5000, seen: () => seen.join('\n') });
  }

  async close(): Promise<void> {
    const left = [...this.running];
    for (const running of left) running.signal('SIGKILL');
    for (const id of list(this.root)) await this.oci(['delete', '--force', id]);
    try {
      await this.expectNothingLeft();
    } finally {
      // The test has failed; the next one shall not.
      for (const { pid } of this.processes()) end(pid);
      await Promise.allSettled(left.map(({ result }) => result)); // a container may have had their outputs
      for (const path of cgroupsNamed(this.mark).reverse()) await removeCgroup(path);
      rmSync(this.dir, { recursive: true, force: true });
    }
  }

  private processes(): HostProcess[] {
    return [...listProcesses().values()]
      .filter(({ pid, environment }) => environment.includes(this.mark) || mountsOf(pid).includes(this.dir))
      .filter(({ pid }) => pid !== process.pid && ![...this.running].some((running) => running.pid === pid));
  }

  private watched(running: Running): Running {
    this.running.add(running);
    const done = () => void this.running.delete(running);
    running.result.then(done, done);
    return running;
  }
}

/** An OCI host for the test that calls it. */
export function ociHost(): OciHost {
  const host = new OciHost();
  onTestFinished(() => host.close());
  return host;
}

/** What the commands print about a container: the specification's state, and what runc adds. */
export type PrintedState = OciState & { readonly rootfs: string; readonly created: string };

/** One bundle, and the container that is made of it. */
export class Container {
  readonly host: OciHost;
  readonly id: string;
  readonly bundle: string;

  constructor(host: OciHost, id: string, bundle: string) {
    this.host = host;
    this.id = id;
    this.bundle = bundle;
  }

  get rootfs(): string {
    return join(this.bundle, 'rootfs');
  }

  /** What the container has written, where the command that made it did not wait for it. */
  get output(): string {
    return read(join(this.bundle, 'stdout'));
  }

  write(config: unknown): void {
    writeFileSync(join(this.bundle, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config));
  }

  /** A file in the root file system. */
  file(path: string, text: string, mode = 0o644): void {
    writeFileSync(join(this.rootfs, path), text, { mode });
  }

  read(path: string): string {
    return read(join(this.rootfs, path));
  }

  /**
   * A command with this container's id: `exec --user 1:1` and then what follows the id. What lives on after the
   * command keeps its outputs, which therefore are files.
   */
  async call(line: string, ...behind: string[]): Promise<Result> {
    return this.callWith({}, line, ...behind);
  }

  async callWith(options: RunOptions, line: string, ...behind: string[]): Promise<Result> {
    const args = this.args(line, behind);
    if (!/^create\b|^(run|exec)\b.* (-d|--detach)\b/.test(line)) return this.host.oci(args, options);
    const files = ['stdout', 'stderr'].map((name) => join(this.bundle, name));
    const redirected = ['sh', '-c', 'out=$0; exec "$@" </dev/null >>"$out/stdout" 2>"$out/stderr"', this.bundle];
    const { code } = await this.host.spawn([...redirected, ...this.host.argv(args)], { input: '', ...options }).result;
    const [stdout = '', stderr = ''] = files.map(read);
    return { code, stdout, stderr };
  }

  /** Like {@link call}; fails the test, with all that was printed, when the exit code is not 0. */
  async ok(line: string, ...behind: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.call(line, ...behind);
    expect(code, `tsv oci ${line} ${this.id} ${behind.join(' ')}\n${stdout}${stderr}`).toBe(0);
    return stdout;
  }

  args(line: string, behind: readonly string[] = []): string[] {
    const [command = '', ...flags] = line.split(' ');
    const bundle = command === 'create' || command === 'run' ? ['--bundle', this.bundle] : [];
    return [command, ...bundle, ...flags, this.id, ...behind];
  }

  async state(): Promise<PrintedState> {
    return JSON.parse(await this.ok('state')) as PrintedState;
  }

  async pid(): Promise<number> {
    return (await this.state()).pid ?? 0;
  }

  async becomes(status: string): Promise<void> {
    let seen = '';
    const look = async () => {
      seen = (await this.state()).status;
      return seen === status;
    };
    await until(`${this.id} is ${status}`, look, { seen: () => seen });
  }

  /** Content of a file of its cgroup, for a host with either version of control groups. */
  async limit(controller: string, file: { readonly v1: string; readonly v2: string }): Promise<string> {
    const lines = read(`/proc/${await this.pid()}/cgroup`)
      .trim()
      .split('\n');
    const isOf = (line: string) => line.split(':')[1]?.split(',').includes(controller);
    const v1 = lines.find(isOf);
    const path = (v1 ?? lines.find((line) => line.startsWith('0::')) ?? '').split(':').slice(2).join(':');
    const folder = v1 === undefined ? '/sys/fs/cgroup' : join('/sys/fs/cgroup', v1.split(':')[1] ?? '');
    return read(join(folder, path, v1 === undefined ? file.v2 : file.v1)).trim();
  }
}

let made: string | undefined;

/** The root file system that all are cloned from. */
function template(): string {
  if (made === undefined) throw new Error('useRootfs() has to be called in this file');
  return made;
}

/** To be called once in a file that uses {@link ociHost}. */
export function useRootfs(): void {
  beforeAll(() => {
    made = mkdtempSync(join(tmpdir(), 'tsv-oci-rootfs-'));
    makeRootfs(made);
  });
  afterAll(() => made !== undefined && rmSync(made, { recursive: true, force: true }));
}

/** The same tree with hard links for files: busybox is there once. */
function cloneTree(from: string, to: string): void {
  mkdirSync(to);
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) cloneTree(source, target);
    else if (entry.name === 'busybox') linkSync(source, target);
    else if (entry.isSymbolicLink()) symlinkSync('busybox', target);
    else copyFileSync(source, target);
  }
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone with the PID 1 that was ended before it.
  }
}

const mountsOf = (pid: number): string => read(`/proc/${pid}/mountinfo`);

/** Names of the folders in a folder; none when it is not there. */
function list(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch {
    return [];
  }
}

/** Every cgroup whose name has `part` in it, in every hierarchy. */
export function cgroupsNamed(part: string, folder = '/sys/fs/cgroup'): string[] {
  return list(folder).flatMap((name) => {
    const path = join(folder, name);
    return [...(name.includes(part) ? [path] : []), ...cgroupsNamed(part, path)];
  });
}

/** A cgroup can be removed when its last process is gone, which is a moment after it was killed (EBUSY until then). */
export const removeCgroup = (path: string): Promise<boolean> =>
  until(`${path} is removed`, () => {
    try {
      rmdirSync(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return false;
    }
    return true;
  });

/**
 * Takes a terminal on a console socket, as a container manager does, and prints what comes out of it: recvmsg(2) in
 * perl, which every Debian has; Node cannot take descriptors.
 */
export async function consoleSocket(host: OciHost, path: string): Promise<Running> {
  const receiver = host.spawn(['perl', '-e', receiveTerminal, path]);
  await receiver.prints(/listening/);
  return receiver;
}

const receiveTerminal = `
use strict; use Socket; $| = 1;
my ($server, $client, $terminal);
socket($server, AF_UNIX, SOCK_STREAM, 0) && bind($server, sockaddr_un($ARGV[0])) && listen($server, 1) or die $!;
print "listening\\n";
accept($client, $server) or die $!;
my ($data, $control) = ("\\0" x 4096, "\\0" x 64);
my $vector = pack('PQ', $data, 4096);
my $header = pack('QQPQPQQ', 0, 0, $vector, 1, $control, 64, 0);
my $length = syscall(47, fileno($client), $header, 0);
my $fd = unpack('l', substr($control, 16, 4));
print "received ", substr($data, 0, $length), "\\n";
open($terminal, '+<&=', $fd) or die $!;
print "terminal ", (-t $terminal ? "yes" : "no"), "\\n";
syswrite($terminal, "typed\\n");
while (sysread($terminal, my $text, 4096)) { print $text }
print "hung up\\n";
`;
