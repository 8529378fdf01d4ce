import { join } from 'node:path';
import { type Running, start } from './cli.ts';
import { Engine, runtimeProgram, useEngine, whyNot } from './dockerd.ts';
import { listProcesses } from './host-processes.ts';
import { until } from './until.ts';

/** Podman needs no daemon; the namespaces in which its commands run are kept by one shell. */
class Podman extends Engine {
  private keeper: Running | undefined;
  /** The host's pid of PID 1 there. */
  private first = 0;

  constructor() {
    super('podman', 'libpod');
  }

  async open(): Promise<void> {
    // The shell reaps what is left to it, and ends, with all of it, when its input does: with this process at the latest.
    const script = 'mount -t tmpfs tmpfs /run && mkdir -p /run/lock && ip link set lo up && echo ready && cat';
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
    const folders = ['--root', join(this.dir, 'root'), '--runroot', '/run/podman', '--tmpdir', '/run/podman-tmp'];
    const settings = ['--cgroup-manager', 'cgroupfs', '--events-backend', 'none', '--runtime', runtimeProgram];
    const enter = ['nsenter', '--target', String(this.first), '--net', '--mount', '--pid'];
    return [...enter, 'podman', ...folders, ...settings, ...args];
  }

  protected async stop(): Promise<void> {
    this.keeper?.endInput();
    await this.keeper?.result.catch(() => {});
  }
}

export const usePodman = (): (() => Engine) =>
  useEngine(whyNot('podman', 'conmon'), async () => {
    const podman = new Podman();
    try {
      await podman.open();
    } catch (error) {
      await podman.close();
      throw error;
    }
    return podman;
  });
