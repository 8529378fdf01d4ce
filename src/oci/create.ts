import { closeSync, existsSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cgroup } from '../cgroup/index.ts';
import { TsvError } from '../model/errors.ts';
import type { ProcessRef } from '../model/state.ts';
import { type ExitStatus, waitExit, watchExit } from '../sys/children.ts';
import { O } from '../sys/flags.ts';
import { fork, memoryFile } from '../sys/fork.ts';
import { type Keeper, keeperFds } from '../sys/keeper.ts';
import { processRef } from '../sys/process.ts';
import { openProc } from '../sys/procfs.ts';
import { createProgram, type RootfsLayers } from './create-program.ts';
import { containerDevices, deviceOwner, devicePlaces, sourceOfDevices } from './devices.ts';
import { startFailure } from './failures.ts';
import { initExecutable } from './init.ts';
import { limitProcess } from './limits.ts';
import { readMountOptions } from './mount-options.ts';
import { bindPlace, copyPlace, type PlannedMount } from './mounts.ts';
import { isPrivileged, namespacePlace, ownedNamespaces, planNamespaces } from './namespaces.ts';
import { places } from './paths.ts';
import { planMounts, rootfsFolder } from './plan-mounts.ts';
import type { OciConfig, OciMount, OciNamespaceType } from './spec.ts';
import { terminalPlaces } from './terminal.ts';
import { forbidsGroups, makeUserNamespace, writeUserMap } from './user-map.ts';

/** Descriptors 0, 1, 2 of a process; they stay the caller's. */
export interface Stdio {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

export interface CreateOptions {
  /** For messages. */
  readonly name: string;
  readonly config: OciConfig;
  readonly bundle: string;
  /** Instead of `root.path`. */
  readonly layers?: RootfsLayers;
  readonly cgroup: { readonly cgroup: Cgroup; readonly folders: readonly string[] };
  /** What mounts of cgroups show, where that is more. */
  readonly shownCgroup?: Cgroup;
  readonly stdio: Stdio;
  /** Socket that the master of the process's terminal is sent to. */
  readonly console?: number;
  readonly files?: Readonly<Record<string, string>>;
  /** PID 1 is a small init; the command, if there is one, its child. */
  readonly init?: boolean;
  /** Descriptors of the FIFOs for a start by another process; without them {@link CreatedContainer.start} starts it. */
  readonly gate?: { readonly start: number; readonly result: number };
  /** Binds of what is mounted nowhere yet: descriptors of those mounts, by the binds' sources. */
  readonly mounts?: ReadonlyMap<string, number>;
  /** A read-only bind does without its id map where its file system has none. */
  readonly idmapOptional?: boolean;
  /** Descriptors that the process keeps, from 3 on. */
  readonly preserved?: readonly number[];
  readonly noPivot?: boolean;
  /** The parent of PID 1, which outlives the caller; without one the caller is. */
  readonly keeper?: Keeper;
  /** The namespaces are there, the process that holds them waits. */
  connect?(pid: number): Promise<void>;
  /** All is mounted; nothing of the container has run, and the host's file system is still in sight. */
  mounted?(pid: number, mounts: readonly HeldMount[]): Promise<void>;
}

/** A container whose process waits for its start. */
export interface CreatedContainer {
  readonly process: ProcessRef;
  /** How PID 1 ended, where it is the caller's child. */
  readonly exited: Promise<ExitStatus | undefined>;
  /** The keeper has ended, and so written down all that it has to say. */
  readonly kept?: Promise<unknown>;
  /**
   * Resolves when the command has been executed. Only without `gate`. Detached, its end is for whoever inherits it.
   * @throws TSV_COMMAND_NOT_FOUND, TSV_CONTAINER_START
   */
  start(options?: { detach?: boolean }): Promise<void>;
  /** Ends a container that has not been started. */
  abandon(): Promise<void>;
}

/** A new tmpfs that is to begin with the image's files, by a path that leads to it alone. */
export interface HeldMount {
  readonly at: string;
  readonly destination: string;
  readonly path: string;
}

const heldMounts = (mounts: readonly PlannedMount[], path: (name: string) => string): HeldMount[] =>
  mounts.flatMap((mount, index) =>
    mount.kind === 'filesystem' && mount.options.copyUp
      ? [{ at: mount.at, destination: mount.destination, path: path(copyPlace(index)) }]
      : [],
  );

let lastCapabilityCache: number | undefined;
/** The kernel's highest capability (capabilities(7)). */
export const lastCapability = (): number => {
  lastCapabilityCache ??= Number(readFileSync('/proc/sys/kernel/cap_last_cap', 'utf8'));
  return lastCapabilityCache;
};

const everyCapability = 2n ** 64n - 1n;
/** What this process could pass on at most; a new user namespace begins with all. */
export const passableCapabilities = (userNamespace: boolean): bigint =>
  userNamespace
    ? everyCapability
    : BigInt(`0x${/^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);

/**
 * The files that a process joins its cgroups by. In v1 that is `tasks`: one thread that moves itself does not wait for the
 * kernel to hold all others up, as `cgroup.procs` does for several milliseconds (kernel/cgroup/cgroup.c,
 * cgroup_procs_write_start). The child has one thread.
 */
export const joinFile = (folder: string): string =>
  join(folder, existsSync(join(folder, 'tasks')) ? 'tasks' : 'cgroup.procs');

/**
 * Makes a container, up to the moment before its command is executed: everything that can fail has been done by then.
 * On an error nothing of it is left but the cgroup, which is the caller's.
 * @throws TSV_BUNDLE, TSV_CONTAINER_START, TSV_COMMAND_NOT_FOUND (exit code 127 or 126), TSV_SECCOMP, or what the callbacks throw
 */
export async function createContainer(options: CreateOptions): Promise<CreatedContainer> {
  const { config } = options;
  const opened: number[] = [];
  const open = (path: string, flags: number): number => {
    const fd = openSync(path, flags | O.CLOEXEC);
    opened.push(fd);
    return fd;
  };
  try {
    const namespaces = planNamespaces(config);
    const privileged = isPrivileged();
    const { uidMappings = [], gidMappings = [] } = config.linux ?? {};
    const fds: Record<string, number> = { ...options.stdio };
    options.cgroup.folders.forEach((folder, i) => {
      fds[`cgroup${i}`] = open(joinFile(folder), O.WRONLY);
    });
    const joined = new Map<OciNamespaceType, number>(
      namespaces.joined.map(({ type, path = '' }) => [type, openNamespace(config, type, path, open)]),
    );
    for (const [type, fd] of joined) fds[namespacePlace(type)] = fd;
    const idmap = await idMaps(options, privileged, (name, fd) => {
      opened.push(fd);
      fds[name] = fd;
    });
    const mounts = planMounts(config, {
      bundle: options.bundle,
      rootfs: options.layers === undefined ? rootfsFolder(config, options.bundle) : undefined,
      cgroup: options.shownCgroup ?? options.cgroup.cgroup,
      ownCgroupNamespace: config.linux?.namespaces?.some(({ type }) => type === 'cgroup') ?? false,
      idmap,
      idmapOptional: options.idmapOptional === true,
      ...(options.mounts === undefined ? {} : { given: new Set(options.mounts.keys()) }),
    });
    mounts.forEach((mount, index) => {
      if (mount.kind === 'bind')
        fds[bindPlace(index)] = (mount.given === true ? options.mounts?.get(mount.source) : undefined) ?? -1;
      if (mount.kind === 'filesystem' && mount.options.copyUp) fds[copyPlace(index)] = -1;
    });
    const devices = containerDevices(config);
    const deviceSource = sourceOfDevices(config, namespaces);
    if (deviceSource === 'bring') for (const place of devicePlaces(devices)) fds[place] = -1;
    const terminal = config.process?.terminal === true;
    if (terminal && options.console !== undefined) fds.console = options.console;
    if (options.init === true) {
      fds.init = memoryFile('tsv-init', initExecutable());
      opened.push(fds.init);
    }
    if (config.linux?.timeOffsets !== undefined) {
      fds.proc = openProc();
      opened.push(fds.proc);
    }
    if (options.keeper !== undefined) Object.assign(fds, keeperFds(options.keeper));
    if (options.gate !== undefined) Object.assign(fds, options.gate);
    options.preserved?.forEach((fd, i) => {
      fds[`preserved${i}`] = fd;
    });
    Object.assign(fds, places, terminal ? terminalPlaces : {});
    const rootfs = options.layers ?? rootfsFolder(config, options.bundle);
    const steps = createProgram({
      config,
      rootfs,
      ...(typeof rootfs === 'string' && config.linux?.rootfsPropagation === 'shared'
        ? { rootfsMount: mountPointOf(rootfs) }
        : {}),
      cgroups: options.cgroup.folders.length,
      namespaces,
      ownedNamespaces: ownedNamespaces(joined.get('user'), joined),
      mounts,
      devices,
      privileged,
      deviceSource,
      hostIds: (device) => deviceOwner(config, device),
      files: options.files ?? {},
      lastCapability: lastCapability(),
      bounding: passableCapabilities(namespaces.user),
      groups: forbidsGroups(gidMappings, privileged) ? 'may' : 'must',
      ...(terminal
        ? {
            terminal: {
              ...(config.process?.consoleSize === undefined ? {} : { size: config.process.consoleSize }),
              console: options.console !== undefined,
              devConsole: true,
            },
          }
        : {}),
      ownStdio: terminal ? ['stdin'] : reopenable(options.stdio),
      gate: options.gate === undefined ? 'pipe' : 'fifo',
      init: options.init === true,
      preserved: options.preserved?.length ?? 0,
      noPivot: options.noPivot === true,
      ...(options.keeper === undefined ? {} : { keeper: options.keeper }),
      ...(options.noPivot === true ? { hostKernelMounts: kernelMounts(rootfs) } : {}),
    });
    const builder = fork({ fds, steps }, startFailure(options.name, config.process));
    const childGone = waitExit(builder.pid);
    let builderGone = options.keeper === undefined ? childGone : undefined;
    let exited: Promise<ExitStatus | undefined> | undefined;
    const abandon = async (): Promise<void> => {
      builder.abandon();
      await Promise.all([builderGone, exited]);
    };
    try {
      const builderPid = options.keeper === undefined ? builder.pid : await builder.reported('kept');
      builderGone ??= waitExit(builderPid);
      await builder.reported('unshared');
      if (namespaces.newUser) writeUserMap(builderPid, uidMappings, gidMappings, privileged);
      await options.connect?.(builderPid);
      builder.go();
      const pid = await builder.reported('forked');
      const watch = watchExit(pid);
      exited = watch.exited;
      await builder.reported('mounted');
      if (config.process !== undefined) limitProcess(pid, config.process);
      await options.mounted?.(
        pid,
        heldMounts(mounts, (name) => `/proc/${pid}/fd/${builder.fdNumber(name)}`),
      );
      builder.go();
      await builder.reported('ready');
      const process = processRef(pid);
      if (process === undefined)
        throw new TsvError('TSV_CONTAINER_START', `${options.name}: its process ended at once`);
      return {
        process,
        exited,
        ...(options.keeper === undefined ? {} : { kept: childGone }),
        start: async ({ detach = false } = {}) => {
          if (detach) watch.forget();
          builder.go();
          await builder.executed;
        },
        abandon,
      };
    } catch (error) {
      // Whatever has begun is over before anybody is told.
      await abandon();
      throw error;
    }
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

function openNamespace(
  config: OciConfig,
  type: OciNamespaceType,
  path: string,
  open: (path: string, flags: number) => number,
): number {
  try {
    return open(path, O.RDONLY);
  } catch (error) {
    const index = config.linux?.namespaces?.findIndex((entry) => entry.type === type) ?? 0;
    throw new TsvError(
      'TSV_BUNDLE',
      `linux.namespaces[${index}].path: ${path}: ${(error as NodeJS.ErrnoException).code}`,
      {
        cause: error,
      },
    );
  }
}

/** User namespaces for the binds that ask for an id map of theirs, one for each map. */
async function idMaps(
  options: CreateOptions,
  privileged: boolean,
  add: (name: string, fd: number) => void,
): Promise<(mount: OciMount) => string | undefined> {
  const { config } = options;
  const made = new Map<string, string>();
  const keyOf = (mount: OciMount): string | undefined => {
    const { idmap } = readMountOptions(mount.options ?? []);
    if (idmap === 'no' && mount.uidMappings === undefined && mount.gidMappings === undefined) return undefined;
    return JSON.stringify([
      mount.uidMappings ?? config.linux?.uidMappings ?? [],
      mount.gidMappings ?? config.linux?.gidMappings ?? [],
    ]);
  };
  for (const mount of config.mounts ?? []) {
    const key = keyOf(mount);
    if (key === undefined || made.has(key)) continue;
    const [uids, gids] = JSON.parse(key);
    const name = `idmap${made.size}`;
    add(name, await makeUserNamespace(uids, gids, privileged));
    made.set(key, name);
  }
  return (mount) => made.get(keyOf(mount) ?? '');
}

/** The process's user owns its pipes, so that it can open /dev/stdout again; files and devices keep their owner. */
export function reopenable(stdio: Stdio): string[] {
  return (['stdin', 'stdout', 'stderr'] as const).filter((name) => {
    const stat = fstatSync(stdio[name]);
    return stat.isFIFO() || stat.isSocket();
  });
}

/** The mount point that a path lies on: proc(5), mountinfo. */
const mountPointOf = (path: string): string =>
  mountTable()
    .map(({ point }) => point)
    .filter((point) => point === '/' || path === point || path.startsWith(`${point}/`))
    .reduce((longest, point) => (point.length > longest.length ? point : longest), '/');

/** Where the host has proc and sysfs, deepest first, but for the container's own. */
const kernelMounts = (rootfs: string | RootfsLayers): string[] => {
  const own = typeof rootfs === 'string' ? rootfs : rootfs.mountPoint;
  return mountTable()
    .filter(({ point, type }) => (type === 'proc' || type === 'sysfs') && !point.startsWith(`${own}/`))
    .map(({ point }) => point)
    .reverse();
};

const mountTable = (): { point: string; type: string }[] =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .trim()
    .split('\n')
    .map((line) => ({
      point: unescapeMount(line.split(' ')[4] ?? '/'),
      type: line.split(' - ')[1]?.split(' ')[0] ?? '',
    }));

const unescapeMount = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
