import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { cgroupsNamed, makeRootfs, removeCgroup } from './bundle.ts';
import { packageDir, quote, type Result, type Running, type RunOptions, start } from './cli.ts';
import { isRoot } from './root.ts';
import { until } from './until.ts';

/** `tsv oci` as one program, for those who take a runtime by its path alone. */
export const runtimeProgram = join(packageDir, 'dist', 'tsv-oci.js');
export const image = 'busybox:test';

/** Why tests with a program cannot run here; undefined when they can. */
export function whyNot(...programs: readonly string[]): string | undefined {
  if (!isRoot) return 'needs root';
  const folders = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`.split(':');
  const missing = programs.find((program) => !folders.some((folder) => existsSync(join(folder, program))));
  return missing === undefined ? undefined : `${missing} is not installed`;
}

/** The command of a container engine, used as a user would. */
export abstract class Engine {
  readonly dir: string;
  /** Cgroups that were there before, by others with the same engine. */
  private readonly before: ReadonlySet<string>;
  private readonly cgroupName: string;
  protected readonly running = new Set<Running>();

  constructor(name: string, cgroupName: string) {
    this.dir = mkdtempSync(join(tmpdir(), `tsv-${name}-test-`));
    this.cgroupName = cgroupName;
    this.before = new Set(cgroupsNamed(cgroupName));
  }

  /** The whole command line for arguments of the engine's command. */
  abstract argv(args: readonly string[]): readonly string[];
  protected readonly env: Readonly<Record<string, string>> = {};
  /** Ends the engine with everything in it. */
  protected abstract stop(): Promise<void>;

  /** Makes {@link image} of busybox. */
  async importImage(): Promise<void> {
    const rootfs = join(this.dir, 'rootfs');
    makeRootfs(rootfs);
    const importing = this.argv(['import', '-', image]).map(quote).join(' ');
    await succeeded(
      this.watch(start(this.dir, ['sh', '-c', `tar -C ${rootfs} -c . | ${importing}`], { env: this.env })),
    );
  }

  start(args: readonly string[], options: RunOptions = {}): Running {
    return this.watch(start(this.dir, this.argv(args), { ...options, env: this.env }));
  }

  startOnTerminal(args: readonly string[]): Running {
    const line = this.argv(args).map(quote).join(' ');
    return this.watch(start(this.dir, ['script', '-qec', line, '/dev/null'], { env: this.env }));
  }

  call(args: readonly string[], options: RunOptions = {}): Promise<Result> {
    return this.start(args, { input: '', ...options }).result;
  }

  /** Its standard output. Fails the test, with all that was printed, when the exit code is not 0. */
  async ok(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.call(args);
    expect(code, `${args.join(' ')}\n${stdout}${stderr}`).toBe(0);
    return stdout;
  }

  async close(): Promise<void> {
    const left = [...this.running];
    for (const running of left) running.signal('SIGKILL');
    await this.stop();
    await Promise.allSettled(left.map(({ result }) => result));
    for (const path of cgroupsNamed(this.cgroupName)) if (!this.before.has(path)) await removeCgroups(path);
    rmSync(this.dir, { recursive: true, force: true });
  }

  protected watch(running: Running): Running {
    this.running.add(running);
    const done = () => void this.running.delete(running);
    running.result.then(done, done);
    return running;
  }
}

async function succeeded(running: Running): Promise<void> {
  const { code, stdout, stderr } = await running.result;
  if (code !== 0) throw new Error(`exit code ${code}\n${stdout}${stderr}`);
}

/** With what is below it. */
async function removeCgroups(path: string): Promise<void> {
  for (const inner of cgroupsNamed('', path).reverse()) await removeCgroup(inner);
  await removeCgroup(path);
}

/** A daemon of docker in network, mount and PID namespaces of its own: all of it ends with its first process. */
class Docker extends Engine {
  private readonly socket = join(this.dir, 'docker.sock');
  protected override readonly env = { DOCKER_HOST: `unix://${this.socket}`, DOCKER_CONFIG: this.dir };
  private daemon: Running | undefined;

  constructor() {
    super('docker', 'docker');
  }

  async open(): Promise<void> {
    for (const name of ['data', 'exec']) mkdirSync(join(this.dir, name));
    const log = join(this.dir, 'log');
    const script = `mount -t tmpfs tmpfs /run && ip link set lo up && exec dockerd "$@" >${log} 2>&1`;
    const namespaces = ['unshare', '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const options = {
      host: `unix://${this.socket}`,
      'data-root': join(this.dir, 'data'),
      'exec-root': join(this.dir, 'exec'),
      pidfile: join(this.dir, 'pid'),
      'add-runtime': `tsv=${runtimeProgram}`,
      'default-runtime': 'tsv',
    };
    const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
    // Were this process killed, the daemon would go with it.
    const argv = ['setpriv', '--pdeathsig', 'KILL', ...namespaces, 'sh', '-c', script, 'sh', ...flags];
    this.daemon = start(this.dir, argv, {
      timeoutMs: 600_000,
      env: { PATH: `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin` },
    });
    let ended = false;
    this.daemon.result.finally(() => (ended = true)).catch(() => {});
    const answers = async () => ended || (await this.call(['version'])).code === 0;
    const seen = () => (existsSync(log) ? readFileSync(log, 'utf8').split('\n').slice(-8).join('\n') : '');
    await until('dockerd answers', answers, { timeoutMs: 30_000, everyMs: 50, seen });
    if (ended) throw new Error(`dockerd has ended:\n${seen()}`);
    await this.importImage();
  }

  argv(args: readonly string[]): readonly string[] {
    return ['docker', ...args];
  }

  protected async stop(): Promise<void> {
    this.daemon?.signal('SIGKILL');
    await this.daemon?.result.catch(() => {});
  }
}

/** The engine of a file of tests, opened before the first and closed after the last; without it they are skipped. */
export function useEngine<E extends Engine>(lacks: string | undefined, open: () => Promise<E>): () => E {
  let engine: E | undefined;
  beforeAll(async () => {
    if (lacks === undefined) engine = await open();
  });
  beforeEach((context) => {
    if (lacks !== undefined) context.skip(lacks);
  });
  afterAll(() => engine?.close());
  return () => {
    if (engine === undefined) throw new Error('the engine starts before the first test');
    return engine;
  };
}

export const useDocker = (): (() => Engine) =>
  useEngine(whyNot('docker', 'dockerd', 'containerd'), async () => {
    const docker = new Docker();
    try {
      await docker.open();
    } catch (error) {
      await docker.close();
      throw error;
    }
    return docker;
  });
