import { closeSync, constants, openSync } from 'node:fs';
import {
  type CgroupStats,
  cgroupProcesses,
  createCgroup,
  detectCgroups,
  freeze,
  isFrozen,
  killCgroup,
  placeCgroup,
  removeCgroup,
  stats,
  thaw,
  updateCgroup,
} from '../cgroup/index.ts';
import { TsvError } from '../model/errors.ts';
import { type ExitStatus, signalProcess, waitExit } from '../sys/children.ts';
import { errnoName } from '../sys/errno.ts';
import { isAlive } from '../sys/process.ts';
import { connectConsole, consolePair, proxyTerminal, receiveTerminal } from './console.ts';
import { copyUp } from './copy-up.ts';
import { type CreatedContainer, createContainer } from './create.ts';
import { execInContainer } from './exec.ts';
import { commandFailure } from './failures.ts';
import { readGate } from './gate.ts';
import { runHooks } from './hooks.ts';
import { checkHost, checkLabels } from './host.ts';
import { readBelow } from './open.ts';
import { readBundle } from './parse.ts';
import { rootfsFolder } from './plan-mounts.ts';
import type { OciConfig, OciProcess, OciResources, OciState } from './spec.ts';
import { ContainerFolder, type ContainerRecord, replaceFile, stateOf, statusOf } from './store.ts';

/*
 * The operations of a runtime: runtime.md, "Operations" and "Lifecycle". What waits for a process alone does not keep Node's
 * event loop going (src/sys/children.ts, keepAlive): the process edge does, for all of them.
 */

export interface Runtime {
  /** Folder of the containers' state. */
  readonly root: string;
  /** systemd was asked to make the cgroups. */
  readonly systemdCgroup: boolean;
  /** For the log. */
  warn(message: string): void;
}

export interface StartRequest {
  readonly id: string;
  readonly bundle: string;
  readonly pidFile?: string;
  /** Path of a Unix socket that takes the terminal. */
  readonly consoleSocket?: string;
  /** How many descriptors from 3 on the process keeps. */
  readonly preserveFds: number;
  readonly noPivot: boolean;
}

const SIGKILL = 9;
const ownStdio = { stdin: 0, stdout: 1, stderr: 2 };
const preserved = (count: number): number[] => Array.from({ length: count }, (_, i) => 3 + i);

/** Makes a container whose process waits for `start`. @throws TSV_CONTAINER_EXISTS, TSV_BUNDLE, TSV_CONTAINER_START, TSV_CGROUP, TSV_HOOK, … */
export async function create(runtime: Runtime, request: StartRequest): Promise<void> {
  const folder = ContainerFolder.create(runtime.root, request.id);
  try {
    folder.makeGate();
    const gate = {
      start: openSync(folder.gate.start, constants.O_RDWR),
      result: openSync(folder.gate.result, constants.O_RDWR),
    };
    try {
      await make(runtime, folder, request, { gate });
    } finally {
      closeSync(gate.start);
      closeSync(gate.result);
    }
  } catch (error) {
    folder.remove();
    throw error;
  }
}

interface Made {
  readonly container: CreatedContainer;
  readonly record: ContainerRecord;
}

/** Everything of `create` but the state folder, which is there already. On an error, nothing else is left. */
async function make(
  runtime: Runtime,
  folder: ContainerFolder,
  request: StartRequest,
  options: { gate?: { start: number; result: number }; console?: number },
): Promise<Made> {
  const { config: read, folder: bundle, warnings } = readBundle(request.bundle);
  const config = withHome(read, rootfsFolder(read, bundle));
  for (const warning of [...warnings, ...checkHost(config)]) runtime.warn(warning);
  const terminal = config.process?.terminal === true;
  requireConsole(terminal, request.consoleSocket, options);
  const place = placeCgroup(detectCgroups(), {
    ...(config.linux?.cgroupsPath === undefined ? {} : { cgroupsPath: config.linux.cgroupsPath }),
    id: request.id,
    systemd: runtime.systemdCgroup,
  });
  const ownerUid = containerRoot(config);
  const cgroup = createCgroup(place, config.linux?.resources ?? {}, {
    strict: true,
    ...(ownerUid === undefined ? {} : { ownerUid }),
  });
  for (const warning of cgroup.warnings) runtime.warn(warning);
  const draft = (process?: ContainerRecord['process']): ContainerRecord => ({
    version: 1,
    id: request.id,
    bundle,
    config,
    cgroup: cgroup.cgroup,
    ...(process === undefined ? {} : { process }),
    started: false,
    created: new Date().toISOString(),
    owner: global.process.geteuid?.() ?? 0,
  });
  const console = request.consoleSocket === undefined ? options.console : connectConsole(request.consoleSocket);
  try {
    // Were this runtime killed now, `delete` would know what it has made.
    folder.write(draft());
    const container = await createContainer({
      name: request.id,
      config,
      bundle,
      cgroup,
      stdio: ownStdio,
      ...(console === undefined ? {} : { console }),
      ...(options.gate === undefined ? {} : { gate: options.gate }),
      preserved: preserved(request.preserveFds),
      noPivot: request.noPivot,
      mounted: async (pid, mounts) => {
        copyUp(mounts, rootfsFolder(config, bundle));
        const state: OciState = { ...stateOf(draft(), 'creating'), pid };
        for (const kind of ['prestart', 'createRuntime', 'createContainer'] as const)
          await runHooks(kind, config, state, { pid, rootfs: rootfsFolder(config, bundle), cgroups: [] });
      },
    });
    try {
      const record = draft(container.process);
      folder.write(record);
      if (request.pidFile !== undefined) replaceFile(request.pidFile, String(container.process.pid));
      return { container, record };
    } catch (error) {
      await container.abandon();
      signalProcess(container.process, SIGKILL);
      await container.exited;
      throw error;
    }
  } catch (error) {
    await removeCgroup(cgroup.cgroup);
    await poststop(runtime, draft());
    throw error;
  } finally {
    if (request.consoleSocket !== undefined && console !== undefined) closeSync(console);
  }
}

/** HOME of the process's user, as the container's passwd(5) has it, unless the configuration says one. */
function withHome(config: OciConfig, rootfs: string): OciConfig {
  return config.process === undefined ? config : { ...config, process: processWithHome(config.process, rootfs) };
}

function processWithHome(process: OciProcess, rootfs: string): OciProcess {
  const { env = [], user } = process;
  if (env.some((entry) => entry.startsWith('HOME='))) return process;
  return { ...process, env: [...env, `HOME=${homeOf(rootfs, user?.uid ?? 0)}`] };
}

function homeOf(rootfs: string, uid: number): string {
  const rows = (readBelow(rootfs, '/etc/passwd') ?? '').split('\n').map((line) => line.split(':'));
  return rows.find((fields) => fields.length >= 7 && Number(fields[2]) === uid)?.[5] || '/';
}

function requireConsole(terminal: boolean, socket: string | undefined, { console }: { console?: number }): void {
  if (terminal && socket === undefined && console === undefined) {
    throw new TsvError('TSV_USAGE', 'process.terminal: whoever starts it goes away, so it needs a --console-socket');
  }
  if (!terminal && socket !== undefined) {
    throw new TsvError('TSV_USAGE', '--console-socket: process.terminal is not set: there is no terminal to send');
  }
}

/** The host's uid of the container's root, where that is another: it may divide its cgroup further (v2). */
function containerRoot(config: OciConfig): number | undefined {
  if (config.linux?.namespaces?.some(({ type, path }) => type === 'user' && path === undefined) !== true)
    return undefined;
  return config.linux.uidMappings?.find(({ containerID }) => containerID === 0)?.hostID;
}

function load(runtime: Runtime, id: string): { folder: ContainerFolder; record: ContainerRecord } {
  const folder = ContainerFolder.open(runtime.root, id);
  const record = folder.read();
  if (record?.process === undefined) {
    throw new TsvError('TSV_CONTAINER_STATE', `container ${id} is being created`, {
      hint: `if whoever made it is gone: tsv oci delete --force ${id}`,
    });
  }
  return { folder, record };
}

const wrongState = (id: string, what: string): TsvError =>
  new TsvError('TSV_CONTAINER_STATE', `container ${id}: ${what}`);

/** Executes the process of a created container. @throws TSV_CONTAINER_STATE, TSV_COMMAND_NOT_FOUND, TSV_HOOK */
export async function start(runtime: Runtime, id: string): Promise<void> {
  const { folder, record } = load(runtime, id);
  const status = statusOf(record);
  if (status !== 'created') throw wrongState(id, `cannot start a container that is ${status}`);
  await started(runtime, folder, record, async () => {
    const errno = await readGate(folder.gate);
    if (errno === 'gone') throw wrongState(id, 'its process has ended');
    if (errno !== undefined) throw commandFailure(id, record.config.process?.args[0] ?? '', errnoName(errno));
  });
}

/** What `start` and `run` have in common: hooks before and after. */
async function started(
  runtime: Runtime,
  folder: ContainerFolder,
  record: ContainerRecord,
  release: () => Promise<void>,
): Promise<ContainerRecord> {
  const { config, process } = record;
  if (config.process === undefined) {
    throw new TsvError('TSV_BUNDLE', `container ${record.id}: its configuration has no process to start`);
  }
  try {
    await runHooks(
      'startContainer',
      config,
      stateOf(record, 'created'),
      process === undefined
        ? undefined
        : { pid: process.pid, rootfs: '/', cgroups: record.cgroup.members.map(({ folder }) => folder) },
    );
    await release();
  } catch (error) {
    signalProcess(process, SIGKILL);
    if (process !== undefined) await waitExit(process.pid);
    throw error;
  }
  const running = { ...record, started: true };
  folder.write(running);
  folder.removeGate();
  try {
    await runHooks('poststart', config, stateOf(running, 'running'));
  } catch (error) {
    runtime.warn(error instanceof TsvError ? [error.message, ...error.details].join(': ') : String(error));
  }
  return running;
}

/**
 * Creates and starts; in the foreground it waits, and deletes the container unless it is to be kept.
 * @returns the exit code: the process's, 128 + signal, or 0 when detached
 */
export async function run(
  runtime: Runtime,
  request: StartRequest & { readonly detach: boolean; readonly keep: boolean },
): Promise<number> {
  const folder = ContainerFolder.create(runtime.root, request.id);
  // Only a process that outlives us needs to take its terminal elsewhere.
  const pair = !request.detach && request.consoleSocket === undefined ? consolePair() : undefined;
  let made: Made | undefined;
  try {
    made = await make(runtime, folder, request, pair === undefined ? {} : { console: pair.send });
    const { container, record } = made;
    const proxy =
      pair !== undefined && record.config.process?.terminal === true ? receiveTerminal(pair.receive) : undefined;
    const signals = request.detach ? undefined : forwardSignals();
    try {
      await started(runtime, folder, record, () => container.start({ detach: request.detach }));
    } catch (error) {
      signals?.stop();
      throw error;
    }
    if (signals === undefined) return 0;
    const code = await attend(container, proxy, signals);
    if (!request.keep) await remove(runtime, request.id, { force: true });
    return code;
  } catch (error) {
    if (made === undefined) folder.remove();
    else await remove(runtime, request.id, { force: true });
    throw error;
  } finally {
    if (pair !== undefined) for (const fd of [pair.send, pair.receive]) closeSync(fd);
  }
}

/** Takes the signals that a process in the foreground is to have, from before it starts. */
function forwardSignals(): { to(process: ContainerRecord['process']): void; stop(): void } {
  const names: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGCONT'];
  const early: number[] = [];
  let send = (signal: number): void => {
    early.push(signal);
  };
  const forward = (_: NodeJS.Signals, signal: number) => send(signal);
  for (const name of names) process.on(name, forward);
  return {
    to: (target) => {
      send = (signal) => void signalProcess(target, signal);
      for (const signal of early.splice(0)) send(signal);
    },
    stop: () => {
      for (const name of names) process.off(name, forward);
    },
  };
}

/** Waits for a process in the foreground: our signals are its signals, our terminal its terminal. */
async function attend(
  target: { readonly process: ContainerRecord['process']; readonly exited: Promise<ExitStatus | undefined> },
  master: number | undefined,
  signals: ReturnType<typeof forwardSignals>,
): Promise<number> {
  const settle = master === undefined ? undefined : proxyTerminal(master);
  signals.to(target.process);
  try {
    const status = await target.exited;
    await settle?.();
    return exitCode(status);
  } finally {
    signals.stop();
  }
}

const exitCode = (status: ExitStatus | undefined): number =>
  status?.signal === undefined ? (status?.code ?? 255) : 128 + status.signal;

/** As the specification has it; but runc says `paused` where that knows only `running`. */
export type ShownState = Omit<OciState, 'status'> & {
  readonly status: OciState['status'] | 'paused';
  readonly rootfs: string;
  /** ISO 8601. */
  readonly created: string;
};

/** @throws TSV_CONTAINER_UNKNOWN */
export function state(runtime: Runtime, id: string): ShownState {
  const record = ContainerFolder.open(runtime.root, id).read();
  if (record === undefined) {
    return { ociVersion: '1.2.0', id, status: 'creating', bundle: '', rootfs: '', created: '' };
  }
  return { ...stateOf(record), status: statusWord(record), ...more(record) };
}

const more = (record: ContainerRecord) => ({
  rootfs: rootfsFolder(record.config, record.bundle),
  created: record.created,
});

const statusWord = (record: ContainerRecord): OciState['status'] | 'paused' => {
  const status = statusOf(record);
  return status === 'running' && isFrozen(record.cgroup) ? 'paused' : status;
};

/** The configuration that a container was created with. */
export const configOf = (runtime: Runtime, id: string): OciConfig => load(runtime, id).record.config;

/** Sends a signal to the process, or to everything in the container. @throws TSV_CONTAINER_STATE when it does not run */
export async function kill(runtime: Runtime, id: string, signal: number, options: { all: boolean }): Promise<void> {
  const { record } = load(runtime, id);
  if (options.all) return killCgroup(record.cgroup, signal);
  if (!signalProcess(record.process, signal)) throw wrongState(id, 'container not running');
}

/** Removes what a container has left. @throws TSV_CONTAINER_STATE when it runs and `force` is not given */
export async function remove(runtime: Runtime, id: string, { force }: { force: boolean }): Promise<void> {
  let folder: ContainerFolder;
  try {
    folder = ContainerFolder.open(runtime.root, id);
  } catch (error) {
    if (force && error instanceof TsvError && error.code === 'TSV_CONTAINER_UNKNOWN') return;
    throw error;
  }
  const record = folder.read();
  if (record?.process === undefined && !force) throw wrongState(id, 'it is being created');
  if (record === undefined) {
    folder.remove();
    return;
  }
  const status = statusOf(record);
  if (status === 'running' && !force) {
    throw wrongState(id, `cannot delete a container that is running; kill it first, or delete --force`);
  }
  if (status !== 'stopped') {
    if (isFrozen(record.cgroup)) thaw(record.cgroup);
    signalProcess(record.process, SIGKILL);
    if (record.process !== undefined) await waitExit(record.process.pid);
  }
  // Without a PID namespace of its own, others may have outlived its process.
  await killCgroup(record.cgroup, SIGKILL);
  await removeCgroup(record.cgroup);
  await poststop(runtime, record);
  folder.remove();
}

/** Hooks after the end: what they do wrong is said, and stops nothing. */
async function poststop(runtime: Runtime, record: ContainerRecord): Promise<void> {
  try {
    await runHooks('poststop', record.config, stateOf(record, 'stopped'));
  } catch (error) {
    runtime.warn(error instanceof TsvError ? [error.message, ...error.details].join(': ') : String(error));
  }
}

export interface ExecRequest {
  readonly process: OciProcess;
  readonly pidFile?: string;
  readonly consoleSocket?: string;
  readonly detach: boolean;
  readonly preserveFds: number;
  readonly ignorePaused?: boolean;
}

/** Runs another process in a container. @returns its exit code, or 0 when detached */
export async function exec(runtime: Runtime, id: string, request: ExecRequest): Promise<number> {
  const { record } = load(runtime, id);
  const status = statusWord(record);
  if (status === 'stopped') throw wrongState(id, 'cannot exec in a container that is stopped');
  if (status === 'paused' && request.ignorePaused !== true) {
    throw wrongState(id, 'cannot exec in a paused container (use --ignore-paused to override)');
  }
  checkLabels(request.process);
  const terminal = request.process.terminal === true;
  const pair = terminal && !request.detach && request.consoleSocket === undefined ? consolePair() : undefined;
  requireConsole(terminal, request.consoleSocket, pair === undefined ? {} : { console: pair.send });
  const console = request.consoleSocket === undefined ? pair?.send : connectConsole(request.consoleSocket);
  const signals = request.detach ? undefined : forwardSignals();
  try {
    const command = await execInContainer({
      name: id,
      initPid: record.process?.pid ?? 0,
      process: processWithHome(request.process, `/proc/${record.process?.pid}/root`),
      ...(record.config.linux?.seccomp === undefined ? {} : { seccomp: record.config.linux.seccomp }),
      stdio: ownStdio,
      ...(console === undefined ? {} : { console }),
      cgroupFolders: record.cgroup.members.map(({ folder }) => folder),
      preserved: preserved(request.preserveFds),
      detached: request.detach,
    });
    if (request.pidFile !== undefined) replaceFile(request.pidFile, String(command.pid));
    if (signals === undefined) return 0;
    return await attend(command, pair === undefined ? undefined : receiveTerminal(pair.receive), signals);
  } finally {
    signals?.stop();
    for (const fd of new Set([console, pair?.send, pair?.receive])) if (fd !== undefined) closeSync(fd);
  }
}

export interface ListedContainer {
  readonly ociVersion: string;
  readonly id: string;
  /** 0 when nothing runs. */
  readonly pid: number;
  readonly status: string;
  readonly bundle: string;
  readonly rootfs: string;
  /** ISO 8601. */
  readonly created: string;
  readonly annotations?: Readonly<Record<string, string>>;
  /** uid. */
  readonly owner: number;
}

export function list(runtime: Runtime): ListedContainer[] {
  return ContainerFolder.list(runtime.root).flatMap((id) => {
    const record = ContainerFolder.open(runtime.root, id).read();
    if (record === undefined) return [];
    const { ociVersion, pid = 0, bundle, annotations } = stateOf(record);
    // In runc's order: there are programs that compare the text.
    return [
      {
        ociVersion,
        id,
        pid,
        status: statusWord(record),
        bundle,
        ...more(record),
        ...(annotations === undefined ? {} : { annotations }),
        owner: record.owner,
      },
    ];
  });
}

/** Pids of all processes in the container, as the host numbers them. */
export const processes = (runtime: Runtime, id: string): number[] => cgroupProcesses(load(runtime, id).record.cgroup);

export async function pause(runtime: Runtime, id: string): Promise<void> {
  const { record } = load(runtime, id);
  const status = statusWord(record);
  if (status !== 'running' && status !== 'created') throw wrongState(id, `cannot pause a container that is ${status}`);
  await freeze(record.cgroup);
}

export function resume(runtime: Runtime, id: string): void {
  const { record } = load(runtime, id);
  if (statusWord(record) !== 'paused') throw wrongState(id, 'cannot resume a container that is not paused');
  thaw(record.cgroup);
}

export function update(runtime: Runtime, id: string, resources: OciResources): void {
  const { record } = load(runtime, id);
  if (!isAlive(record.process)) throw wrongState(id, 'cannot update a container that is stopped');
  for (const warning of updateCgroup(record.cgroup, resources, { strict: true }).warnings) runtime.warn(warning);
}

export const statistics = (runtime: Runtime, id: string): CgroupStats => {
  const { record } = load(runtime, id);
  if (!isAlive(record.process)) throw wrongState(id, 'it does not run');
  return stats(record.cgroup);
};
