import { spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, test as plainTest, type TestContext } from 'vitest';
import { createNamespaceProvider } from '../../providers/namespace/index.ts';
import { builtFile } from '../../src/app/place.ts';
import { detectCgroups, placeBelowBase } from '../../src/cgroup/index.ts';
import type { Machine } from '../../src/model/project.ts';
import type { BoxRef, ExecRequest, MachineContext, Provider, Transport } from '../../src/model/provider.ts';
import type { MachineAddress, NetworkState, ProcessRef } from '../../src/model/state.ts';
import { chooseMac } from '../../src/net/addresses.ts';
import { Sandbox } from '../../src/net/sandbox.ts';
import { SocketFactory } from '../../src/net/sockets.ts';
import { storeDir } from '../../src/state/paths.ts';
import { ensureBox } from '../../src/store/box/index.ts';
import { type Holder, readUserMap, startHolder, type UserMap } from '../../src/sys/userns.ts';
import { isRoot } from './root.ts';

/*
 * Containers for tests, in a sandbox of their own and without an agent.
 *
 * Only a process in the sandbox's user namespace can start containers there, and a process with threads can enter
 * none. So, as the agent is, the tests of an ordinary user are run by a Node that was started inside: this file runs
 * the test file once more there, and the outer tests of the same names tell what became of the inner ones.
 */

/** What the outer process tells the inner one. */
interface Inside {
  readonly map: UserMap;
  readonly holder: ProcessRef;
  readonly box: BoxRef;
}

const variable = 'TSV_TEST_SANDBOX';
const projectRoot = join(import.meta.dirname, '..', '..');

async function prepare(): Promise<Inside & { readonly holderProcess: Holder }> {
  const map = readUserMap();
  const boxes = { boxesDir: join(projectRoot, 'boxes'), store: storeDir(process.env) };
  const box = await ensureBox({
    ...boxes,
    name: 'debian-12',
    kind: 'container',
    map,
    signal: new AbortController().signal,
    progress: () => {},
  });
  // It ends with this process: nothing of a killed test run stays.
  const holder = await startHolder(map, { namespaces: ['net', 'mount'], label: 'tsv:containers-test' });
  return { map, box, holder: holder.process, holderProcess: holder };
}

/** Whether these are the inner tests. */
export const isInside = process.env[variable] !== undefined;

/** `test` that runs in a sandbox, and what it finds there. Call once per file, with its `import.meta.filename`. */
export function containerTests(file: string): {
  test: (name: string, work: (context: TestContext) => Promise<void>) => void;
  lab: () => Lab;
} {
  const told = process.env[variable];
  let lab: Lab | undefined;
  const theLab = (): Lab => lab ?? fail('the sandbox is made before the first test');
  if (!isRoot) return { test: testsInside(file), lab: theLab };
  beforeAll(async () => {
    const inside = told === undefined ? await prepare() : (JSON.parse(told) as Inside);
    lab = new Lab(inside, 'holderProcess' in inside ? (inside as { holderProcess: Holder }).holderProcess : undefined);
    await lab.open();
  }, 300_000);
  afterAll(() => lab?.close());
  return { test: (name, work) => plainTest(name, work), lab: theLab };
}

/** Skips a test, with the reason kept for the outer test of the same name. */
export function skip(context: TestContext, why: string): never {
  Object.assign(context.task.meta, { why });
  return context.skip(why);
}

interface InnerResult {
  /** Of its suites and of itself. */
  readonly fullName: string;
  readonly meta?: { readonly why?: string };
  readonly status: 'passed' | 'failed' | 'skipped' | 'pending' | 'todo';
  readonly failureMessages: readonly string[];
}

function testsInside(file: string): (name: string, work: (context: TestContext) => Promise<void>) => void {
  const results = new Map<string, InnerResult>();
  beforeAll(async () => {
    const { holderProcess, ...inside } = await prepare();
    try {
      for (const result of await runInside(file, inside)) results.set(result.fullName, result);
    } finally {
      holderProcess.release();
    }
  }, 300_000);
  return (name) =>
    plainTest(name, (context) => {
      const result = results.get(fullName(context.task));
      if (result?.status === 'passed') return;
      if (result?.status === 'skipped' || result?.status === 'pending')
        context.skip(result.meta?.why ?? 'skipped inside');
      throw new Error(result?.failureMessages.join('\n') ?? 'it did not run');
    });
}

/** As the JSON reporter writes it. */
function fullName(task: TestContext['task']): string {
  const names = [task.name];
  for (let suite = task.suite; suite !== undefined; suite = suite.suite) names.unshift(suite.name);
  return names.join(' ');
}

async function runInside(file: string, inside: Inside): Promise<readonly InnerResult[]> {
  const folder = mkdtempSync(join(tmpdir(), 'tsv-inside-'));
  const outputFile = join(folder, 'results.json');
  const options = {
    config: false,
    watch: false,
    root: projectRoot,
    include: [file],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ['json'],
    outputFile,
  };
  const script = `import { startVitest } from 'vitest/node'; await (await startVitest('test', [], ${JSON.stringify(options)})).close();`;
  const enter = ['--user', '--preserve-credentials', '-t', String(inside.holder.pid), '--'];
  try {
    const child = spawn('nsenter', [...enter, process.execPath, '--input-type=module', '-e', script], {
      cwd: projectRoot,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        VITEST: '',
        [variable]: JSON.stringify(inside),
        PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`,
      },
    });
    const [, ...output] = await Promise.all([
      new Promise((resolve) => child.once('close', resolve)),
      buffer(child.stdout),
      buffer(child.stderr),
    ]);
    if (!existsSync(outputFile))
      throw new Error(`the tests did not run inside the sandbox:\n${Buffer.concat(output).toString('utf8')}`);
    const report = JSON.parse(readFileSync(outputFile, 'utf8')) as {
      testResults: { message: string; assertionResults: InnerResult[] }[];
    };
    const message = report.testResults.map((result) => result.message).join('\n');
    return report.testResults.flatMap(({ assertionResults }) =>
      // A failed hook lets every test be skipped; that is no skip.
      assertionResults.map((result) =>
        message === '' || result.status !== 'skipped'
          ? result
          : { ...result, status: 'failed' as const, failureMessages: [message] },
      ),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function fail(message: string): never {
  throw new Error(message);
}

const network: NetworkState = {
  spec: { name: 'default', mode: 'isolated' },
  subnet: '10.99.7.0/24',
  gateway: '10.99.7.1',
  bridge: 'br-test',
};

/** A sandbox with one network, and a namespace provider in it. */
export class Lab {
  readonly map: UserMap;
  readonly box: BoxRef;
  readonly provider: Provider;
  /** Which limits can be set here. */
  readonly projectId = `test-${process.pid}`;
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), 'tsv-lab-')));
  private readonly sandbox: Sandbox;
  private readonly sockets: SocketFactory;
  private readonly holder: Holder | undefined;
  private readonly open_: Container[] = [];
  private count = 0;

  constructor({ map, holder, box }: Inside, own: Holder | undefined) {
    this.map = map;
    this.box = box;
    this.holder = own;
    this.sandbox = new Sandbox({
      holder,
      map,
      projectId: this.projectId,
      projectName: 'lab',
      runDir: join(this.folder, 'run'),
    });
    this.sockets = new SocketFactory(this.sandbox.netns, builtFile('parts/sockets-worker.js'));
    this.provider = createNamespaceProvider({
      map,
      connect: (context, pid) =>
        this.sandbox.connectContainer(context.machine.name, pid, context.addresses, { default: network }),
      dial: (netns, port) => this.sockets.dial('127.0.0.1', port, { netns, timeoutMs: 10_000 }),
      copyProgram: builtFile('parts/copy.js'),
    });
  }

  /** Controllers that limits can be set with here. */
  controllers(): Set<string> {
    return new Set(placeBelowBase(detectCgroups(), 'tsv').members.flatMap(({ controllers }) => controllers));
  }

  /** Folders of a machine's cgroups that are there. */
  cgroupFolders(name: string): string[] {
    const { members } = placeBelowBase(detectCgroups(), `tsv/${this.projectId}/${name}`);
    return members.map(({ folder }) => folder).filter((folder) => existsSync(folder));
  }

  async open(): Promise<void> {
    await this.sandbox.ensureNetworks({ default: network }, { fresh: true });
  }

  async close(): Promise<void> {
    const ends = await Promise.allSettled([...this.open_].map((container) => container.destroy()));
    await this.sockets.close();
    this.holder?.release();
    rmSync(this.folder, { recursive: true, force: true });
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }

  /** The id that a container's id has for this process. */
  idOutside(id: number): number {
    return this.map.rooted ? (this.map.uids[0]?.outside ?? 0) + id : id;
  }

  /** A container that is not started yet. It is destroyed with the lab at the latest. */
  container(options: { machine?: Partial<Machine>; box?: BoxRef; networked?: boolean } = {}): Container {
    const number = this.count++;
    const name = options.machine?.name ?? `c${number}`;
    const dir = join(this.folder, 'machines', name);
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const addresses: MachineAddress[] =
      options.networked === true
        ? [{ network: 'default', address: `10.99.7.${number + 2}`, mac: chooseMac(name), device: 'eth0' }]
        : [];
    const machine: Machine = {
      name,
      group: name,
      kind: 'container',
      box: 'debian-12',
      hostname: name,
      memoryBytes: 256 << 20,
      cpus: 1,
      pids: 256,
      env: {},
      networks: addresses.map((address) => ({ network: address.network })),
      forwards: [],
      shares: [],
      disks: [],
      dependsOn: [],
      provision: [],
      bootTimeoutMs: 30_000,
      stopTimeoutMs: 10_000,
      accel: 'auto',
      ...options.machine,
    };
    const container = new Container(this.provider, {
      machine,
      projectId: this.projectId,
      projectName: 'lab',
      dir,
      runDir: dir,
      volumeDir: (volume) => join(this.folder, 'volumes', volume),
      box: options.box ?? this.box,
      addresses,
      networks: { default: { bridge: network.bridge, gateway: network.gateway, prefix: 24, mode: 'isolated' } },
      memory: {},
      process: undefined,
    });
    this.open_.push(container);
    container.onDestroyed = () => this.open_.splice(this.open_.indexOf(container), 1);
    return container;
  }

  async started(options: Parameters<Lab['container']>[0] = {}): Promise<Container> {
    const container = this.container(options);
    await container.start();
    return container;
  }

  /** A root file system of busybox alone, changed by `change`, owned by the container's root. */
  image(change: (rootfs: string) => void = () => {}): BoxRef {
    const rootfs = join(this.folder, `image-${this.count++}`);
    for (const path of ['bin', 'etc', 'tmp', 'root']) mkdirSync(join(rootfs, path), { recursive: true });
    copyFileSync('/bin/busybox', join(rootfs, 'bin/busybox'));
    for (const applet of ['sh', 'cat', 'ls', 'sleep', 'echo', 'id', 'touch', 'stat', 'readlink', 'true'])
      symlinkSync('busybox', join(rootfs, 'bin', applet));
    change(rootfs);
    own(rootfs, this.idOutside(0));
    return { name: 'busybox', digest: 'none', layers: [rootfs], user: 'root' };
  }
}

/** Gives everything that still is this process's own to the container's root. */
function own(path: string, id: number): void {
  for (const entry of readdirSync(path, { withFileTypes: true, recursive: true }))
    lchownSync(join(entry.parentPath, entry.name), id, id);
  lchownSync(path, id, id);
}

export interface Finished {
  readonly code: number;
  readonly signal?: string;
  readonly stdout: string;
  readonly stderr: string;
}

/** One container through its provider; remembers its process as the state would. */
export class Container {
  private readonly provider: Provider;
  private readonly base: MachineContext;
  process: ProcessRef | undefined;
  readonly notices: string[] = [];
  onDestroyed: () => void = () => {};
  private opened: Transport | undefined;

  constructor(provider: Provider, base: MachineContext) {
    this.provider = provider;
    this.base = base;
  }

  get context(): MachineContext {
    return { ...this.base, process: this.process };
  }

  get pid(): number {
    return this.process?.pid ?? fail('the container does not run');
  }

  /** Its upper folder: what it wrote, seen from outside. */
  get upper(): string {
    return join(this.base.dir, 'upper');
  }

  get log(): string {
    return readFileSync(join(this.base.dir, 'console.log'), 'utf8');
  }

  async start(): Promise<void> {
    await this.provider.create(this.context);
    this.opened = undefined;
    const { process } = await this.provider.start(this.context, new AbortController().signal, (text) =>
      this.notices.push(text),
    );
    this.process = process;
  }

  async transport(): Promise<Transport> {
    this.opened ??= await this.provider.connect(this.context, new AbortController().signal);
    return this.opened;
  }

  /** Runs a command to its end. */
  async exec(argv: readonly string[], options: Omit<ExecRequest, 'argv'> & { input?: string } = {}): Promise<Finished> {
    const { input = '', ...request } = options;
    const session = await (await this.transport()).exec({ argv, ...request });
    const [stdout, stderr] = [collected(session.stdout), collected(session.stderr)];
    session.stdin.end(input);
    const result = await session.exited;
    return { ...result, stdout: stdout(), stderr: stderr() };
  }

  /** Runs a line of shell; its output without the last line break. */
  async sh(line: string, options: Parameters<Container['exec']>[1] = {}): Promise<string> {
    const { stdout, stderr } = await this.exec(['sh', '-c', line], options);
    return (stdout + stderr).trimEnd();
  }

  async stop(force = false): Promise<void> {
    await this.provider.stop(this.context, { force });
  }

  async destroy(): Promise<void> {
    await this.provider.destroy(this.context);
    this.process = undefined;
    rmSync(this.base.dir, { recursive: true, force: true });
    this.onDestroyed();
  }
}

/** What has come so far. (Not to the end: a program in the background may keep an output open for ever.) */
function collected(stream: Readable): () => string {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString('utf8');
}
