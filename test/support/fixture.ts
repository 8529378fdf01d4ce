import { randomBytes } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, onTestFinished } from 'vitest';
import type { Ending, Health, State } from '../../src/model/state.ts';
import {
  packageDir,
  quote,
  type Result,
  type Running,
  type RunOptions,
  start,
  startTsv,
  startTsvOnTerminal,
} from './cli.ts';
import { read, readProcess } from './host-processes.ts';
import { expectNoLeaks, takeSnapshot } from './leaks.ts';

/** `example:NAME`, or the files of a project by path. A project name is made unique: others work on this machine too. */
export type Source = `example:${string}` | Readonly<Record<string, string>>;

export interface StatusEntry {
  readonly machine: string;
  readonly kind: 'vm' | 'container';
  readonly state: string;
  readonly detail?: string;
  readonly ended?: Ending;
  readonly health?: Health;
  readonly addresses: Readonly<Record<string, string>>;
  readonly forwards: readonly string[];
  readonly accel?: string;
  readonly provisioned?: string;
}

export interface Status {
  readonly project: string;
  readonly machines: readonly StatusEntry[];
  readonly inProgress?: { readonly pid: number; readonly command: string };
}

/** A project in a folder of its own, used as a user would. Whatever becomes of the test, it is destroyed and looked for leaks. */
export class Fixture {
  readonly dir: string;
  /** Given to every command. */
  readonly env: Readonly<Record<string, string>>;
  private readonly before = takeSnapshot();
  private readonly projectIds = new Set<string>();
  private readonly names = new Set<string>();
  private readonly transcript: string[] = [];
  private readonly running = new Set<Running>();

  constructor(source: Source, env: Readonly<Record<string, string>> = {}) {
    this.env = env;
    this.dir = realpathSync(mkdtempSync(join(tmpdir(), 'tsv-test-')));
    if (typeof source === 'string')
      cpSync(join(packageDir, 'examples', source.slice('example:'.length)), this.dir, { recursive: true });
    else for (const [path, text] of Object.entries(source)) this.write(path, text);
    const unique = randomBytes(2).toString('hex');
    this.edit((text) => text.replace(/^project: *([a-z0-9-]+)/m, `project: $1-${unique}`));
  }

  write(path: string, text: string): void {
    mkdirSync(dirname(join(this.dir, path)), { recursive: true });
    writeFileSync(join(this.dir, path), text);
  }

  /** Changes the Tsfile. */
  edit(change: (text: string) => string): void {
    const file = join(this.dir, 'Tsfile.yaml');
    if (existsSync(file)) writeFileSync(file, change(readFileSync(file, 'utf8')));
  }

  /** Runs tsv to its end. Arguments are split at spaces; give an array where that is not meant. */
  tsv(args: string | readonly string[], options: RunOptions = {}): Promise<Result> {
    return this.start(args, { input: '', ...options }).result;
  }

  /** Like {@link tsv}; fails the test, with all that was printed, when the exit code is not 0. */
  async ok(args: string | readonly string[], options: RunOptions = {}): Promise<Result> {
    const result = await this.tsv(args, options);
    expect(result.code, `tsv ${words(args).join(' ')}\n${result.stdout}${result.stderr}`).toBe(0);
    return result;
  }

  start(args: string | readonly string[], options: RunOptions = {}): Running {
    return this.recorded(startTsv(this.dir, words(args), this.withEnv(options)), words(args));
  }

  startOnTerminal(args: string | readonly string[], options: RunOptions = {}): Running {
    return this.recorded(startTsvOnTerminal(this.dir, words(args), this.withEnv(options)), words(args));
  }

  /** Runs another program in the project's folder. */
  run(argv: readonly string[], options: RunOptions = {}): Promise<Result> {
    return start(this.dir, argv, { input: '', ...this.withEnv(options) }).result;
  }

  async status(): Promise<Status> {
    return JSON.parse((await this.ok('status --json')).stdout) as Status;
  }

  /** Name and state of each machine, as `tsv status` tells it. */
  async states(): Promise<Record<string, string>> {
    const { machines } = await this.status();
    return Object.fromEntries(
      machines.map(({ machine, state, detail }) => [machine, detail === undefined ? state : `${state} (${detail})`]),
    );
  }

  /** `.ts-vm/state.json` as it is now. */
  state(): State | undefined {
    const text = read(join(this.dir, '.ts-vm', 'state.json'));
    if (text === '') return undefined;
    const state = JSON.parse(text) as State;
    this.projectIds.add(state.projectId);
    this.names.add(state.projectName);
    return state;
  }

  /** Pid of a machine's QEMU or PID 1. */
  machinePid(name: string): number {
    const pid = this.state()?.machines[name]?.process?.pid;
    if (pid === undefined) throw new Error(`${name} has no process in the state`);
    return pid;
  }

  holderPid(): number {
    const pid = this.state()?.sandbox?.holder.pid;
    if (pid === undefined) throw new Error('there is no sandbox in the state');
    return pid;
  }

  /** Pid of the project's agent; undefined when none runs. */
  agentPid(): number | undefined {
    const text = read(join(this.dir, '.ts-vm', 'lock.holder'));
    if (text === '') return undefined;
    const { pid, startTime } = JSON.parse(text) as { pid: number; startTime: string };
    return readProcess(pid)?.startTime === startTime ? pid : undefined;
  }

  /** The journal, one object per line; a line that is being written is left out. */
  journal(): { command: string; step: string; phase: string; error?: string }[] {
    const file = join(this.dir, '.ts-vm', 'journal.ndjson');
    const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : [];
    return lines.map((line) => JSON.parse(line) as { command: string; step: string; phase: string });
  }

  /** Fails when something of this project is on the host. */
  async expectNothingLeft(): Promise<void> {
    this.state();
    await expectNoLeaks(this.before, {
      folders: [this.dir],
      projects: [...this.names],
      projectIds: [...this.projectIds],
    });
  }

  /** Destroys, looks for leaks, removes the folder. What helps to understand a failure is kept first. */
  async close(testName: string, failed: boolean): Promise<void> {
    // A test that failed may not have come to the end of what it started.
    const left = [...this.running];
    for (const running of left) running.signal('SIGKILL');
    await Promise.allSettled(left.map(({ result }) => result));
    if (failed) this.keepArtifacts(testName);
    try {
      this.state();
      if (existsSync(join(this.dir, '.ts-vm'))) await this.ok('destroy --force', { timeoutMs: 90_000 });
      await this.expectNothingLeft();
    } catch (error) {
      if (!failed) this.keepArtifacts(testName);
      throw error;
    }
    rmSync(this.dir, { recursive: true, force: true });
  }

  private withEnv(options: RunOptions): RunOptions {
    return { ...options, env: { ...this.env, ...options.env } };
  }

  private recorded(running: Running, args: readonly string[]): Running {
    this.running.add(running);
    const done = (result: string) => {
      this.running.delete(running);
      const { stdout, stderr } = running.output();
      this.transcript.push(`$ tsv ${args.map(quote).join(' ')}\n${stdout}${stderr}[${result}]\n`);
      this.state();
    };
    running.result.then(
      ({ code }) => done(`exit code ${code}`),
      (error: Error) => done(error.message),
    );
    return running;
  }

  /** Consoles, state, journal, the agent's log and all commands with their output, in test/artifacts. */
  private keepArtifacts(testName: string): void {
    const target = join(packageDir, 'test', 'artifacts', testName.replace(/[^\w]+/g, '-').slice(0, 100));
    rmSync(target, { recursive: true, force: true });
    mkdirSync(target, { recursive: true });
    writeFileSync(join(target, 'commands.txt'), this.transcript.join('\n'));
    const stateDir = join(this.dir, '.ts-vm');
    const keep = [
      'Tsfile.yaml',
      ...['state.json', 'journal.ndjson', 'agent.log', 'lock.holder'].map((name) => join('.ts-vm', name)),
    ];
    const machines = existsSync(join(stateDir, 'machines')) ? readdirSync(join(stateDir, 'machines')) : [];
    keep.push(
      ...machines.flatMap((name) =>
        ['console.log', 'qemu.log', 'config.json'].map((file) => join('.ts-vm', 'machines', name, file)),
      ),
    );
    for (const path of keep) {
      if (existsSync(join(this.dir, path))) cpSync(join(this.dir, path), join(target, path.replaceAll('/', '_')));
    }
  }
}

const words = (args: string | readonly string[]): readonly string[] =>
  typeof args === 'string' ? args.split(' ') : args;

/** A project for the test that calls it. */
export function fixture(source: Source, env: Readonly<Record<string, string>> = {}): Fixture {
  const made = new Fixture(source, env);
  onTestFinished(({ task }) => made.close(task.name, task.result?.state === 'fail'), 120_000);
  return made;
}

/** One project for all tests of a `describe`: made before the first, with what `prepare` does, and closed after the last. */
export function sharedFixture(
  name: string,
  source: Source,
  options: {
    env?: () => Promise<Readonly<Record<string, string>>>;
    prepare?: (project: Fixture) => Promise<unknown>;
    prepareMs?: number;
  } = {},
): () => Fixture {
  let made: Fixture | undefined;
  let failed = false;
  beforeAll(async () => {
    made = new Fixture(source, await options.env?.());
    failed = true; // until prepared
    await options.prepare?.(made);
    failed = false;
  }, options.prepareMs ?? 300_000);
  afterEach(({ task }) => {
    failed ||= task.result?.state === 'fail';
  });
  afterAll(async () => made?.close(name, failed), 120_000);
  return () => {
    if (made === undefined) throw new Error('the project is made before the first test');
    return made;
  };
}

/** A TCP port of 127.0.0.1 that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        typeof address === 'object' && address !== null ? resolve(address.port) : reject(new Error('no port')),
      );
    });
    server.once('error', reject);
  });
}
