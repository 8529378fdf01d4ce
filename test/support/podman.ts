import { spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageDir, type Running, start } from './cli.ts';
import { Engine, runtimeProgram, useEngine, whyNot } from './dockerd.ts';
import { listProcesses } from './host-processes.ts';
import { until } from './until.ts';

/** An ordinary user that exists in the namespaces of the tests alone, with ids for containers. */
const user = { name: 'tsv-podman', id: 64_321, firstId: 1_700_000_000 };
const asUser = ['setpriv', '--reuid', String(user.id), '--regid', String(user.id), '--clear-groups'];

/** Podman needs no daemon; the namespaces in which its commands run are kept by one shell. */
class Podman extends Engine {
  private keeper: Running | undefined;
  /** The host's pid of PID 1 there. */
  private first = 0;

  private readonly rootless: boolean;

  constructor({ rootless }: { rootless: boolean }) {
    super('podman', 'libpod');
    this.rootless = rootless;
  }

  async open(): Promise<void> {
    // The shell reaps what is left to it, and ends, with all of it, when its input does: with this process at the latest.
    const begin = 'mount -t tmpfs tmpfs /run && mkdir -p /run/lock && ip link set lo up';
    const script = [begin, ...(this.rootless ? this.makeUser() : []), 'echo ready && cat'].join(' && ');
    const namespaces = ['unshare', '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const keeper = start(this.dir, [...namespaces, 'sh', '-c', script], { timeoutMs: 600_000 });
    this.keeper = keeper;
    await keeper.prints(/ready/);
    this.first = await until(
      'the namespaces are there',
      () => [...listProcesses().values()].find(({ parent }) => parent === keeper.pid)?.pid,
    );
    await this.importImage();
  }

  argv(args: readonly string[]): readonly string[] {
    const run = this.rootless ? join(this.home, 'run') : '/run';
    const folders = ['--root', join(this.home, 'root'), '--runroot', `${run}/podman`, '--tmpdir', `${run}/podman-tmp`];
    const settings = ['--cgroup-manager', 'cgroupfs', '--events-backend', 'none', '--runtime', runtimeProgram];
    const enter = ['nsenter', '--target', String(this.first), '--net', '--mount', '--pid'];
    const path = `${dirname(process.execPath)}:${process.env.PATH}:/usr/sbin:/sbin`;
    const variables = [`PATH=${path}`, `HOME=${this.home}`, `XDG_RUNTIME_DIR=${run}`, 'TERM=xterm'];
    const become = this.rootless ? [...asUser, 'env', '-i', ...variables] : [];
    return [...enter, ...become, 'podman', ...folders, ...settings, ...args];
  }

  /** Of whoever runs it. */
  get home(): string {
    return this.rootless ? join(this.dir, 'home') : this.dir;
  }

  /** The host's files stay as they are: these cover them in the namespaces. */
  private makeUser(): string[] {
    chmodSync(this.dir, 0o711);
    for (const folder of [this.home, join(this.home, 'run')]) {
      mkdirSync(folder, { mode: 0o700 });
      chownSync(folder, user.id, user.id);
    }
    chmodSync(this.home, 0o711); // the users of its containers look for their root in there
    const { name, id, firstId } = user;
    const lines = {
      passwd: `${name}:x:${id}:${id}::${this.home}:/bin/sh`,
      group: `${name}:x:${id}:`,
      subuid: `${name}:${firstId}:65536`,
      subgid: `${name}:${firstId}:65536`,
    };
    return Object.entries(lines).map(([file, line]) => {
      const copy = join(this.dir, file);
      copyFileSync(join('/etc', file), copy);
      chmodSync(copy, 0o644);
      appendFileSync(copy, `${line}\n`);
      return `mount --bind ${copy} /etc/${file}`;
    });
  }

  protected async stop(): Promise<void> {
    this.keeper?.endInput();
    await this.keeper?.result.catch(() => {});
  }
}

export const usePodman = (): (() => Engine) => use(whyNot('podman', 'conmon'), { rootless: false });

/** Podman as an ordinary user runs it. */
export const useRootlessPodman = (): (() => Podman) =>
  use(whyNot('podman', 'conmon', 'newuidmap', 'setpriv') ?? whyNotRootless(), { rootless: true });

function whyNotRootless(): string | undefined {
  for (const file of ['/etc/subuid', '/etc/subgid']) if (!existsSync(file)) return `this host has no ${file}`;
  for (const program of [packageDir, process.execPath])
    if (!isOpenToAll(program)) return `${program} is in no folder that an ordinary user may enter`;
  const [file = '', ...args] = [...asUser, 'unshare', '--user', 'true'];
  return spawnSync(file, args).status === 0 ? undefined : 'an ordinary user may make no user namespaces here';
}

const isOpenToAll = (path: string): boolean =>
  path === '/' || ((statSync(path).mode & 0o001) !== 0 && isOpenToAll(dirname(path)));

const use = (lacks: string | undefined, options: { rootless: boolean }): (() => Podman) =>
  useEngine(lacks, async () => {
    const podman = new Podman(options);
    try {
      await podman.open();
    } catch (error) {
      await podman.close();
      throw error;
    }
    return podman;
  });
