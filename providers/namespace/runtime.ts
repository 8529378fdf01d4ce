import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../../src/model/errors.ts';
import type { ProcessRef } from '../../src/model/state.ts';
import { type CgroupLayout, type Cgroups, createCgroups, removeCgroups } from '../../src/sys/cgroup.ts';
import { type ExitStatus, waitExit } from '../../src/sys/children.ts';
import { O } from '../../src/sys/flags.ts';
import { fork, memoryFile, type StepFailure } from '../../src/sys/fork.ts';
import { syscall, withBytes } from '../../src/sys/libc.ts';
import { processRef } from '../../src/sys/process.ts';
import { initExecutable } from './init.ts';
import type { OciConfig, OciIdMapping } from './oci.ts';
import { containerProgram, execProgram, places, type RootfsLayers, type UserIds } from './program.ts';

/** Starts containers and commands in them. Shaped after the OCI runtime's create, start and exec. */

export interface StartOptions {
  readonly name: string;
  readonly config: OciConfig;
  readonly layers: RootfsLayers;
  readonly files: Readonly<Record<string, string>>;
  readonly logFile: string;
  readonly layout: CgroupLayout;
  /** A user namespace with the container's own id map, where shares need one to show their owners. */
  readonly shareMap?: string;
  /** Called with the pid whose /proc/PID/ns/net is the container's, before the container runs. */
  connect(pid: number): Promise<void>;
  /** Called with PID 1 before it executes its command. */
  record(process: ProcessRef): Promise<void>;
}

export interface StartedContainer {
  readonly process: ProcessRef;
  readonly exited: Promise<ExitStatus | undefined>;
  readonly cgroups: Cgroups;
}

let lastCapabilityCache: number | undefined;
/** The kernel's highest capability (capabilities(7)). */
export const lastCapability = (): number => {
  lastCapabilityCache ??= Number(readFileSync('/proc/sys/kernel/cap_last_cap', 'utf8'));
  return lastCapabilityCache;
};

const mapText = (mappings: readonly OciIdMapping[]): string =>
  mappings.map((m) => `${m.containerID} ${m.hostID} ${m.size}\n`).join('');

export async function startContainer(options: StartOptions): Promise<StartedContainer> {
  const { config } = options;
  const { resources } = config.linux;
  const cgroups = createCgroups(options.layout, config.linux.cgroupsPath, {
    memoryBytes: resources.memory.limit,
    cpuQuotaUs: resources.cpu.quota,
    cpuPeriodUs: resources.cpu.period,
    pids: resources.pids.limit,
  });
  const opened: number[] = [];
  const open = (path: string, flags: number): number => {
    const fd = openSync(path, flags, 0o600);
    opened.push(fd);
    return fd;
  };
  try {
    const O_APPEND = 0o2000;
    const log = open(options.logFile, O.WRONLY | O.CREAT | O_APPEND | O.NOFOLLOW);
    const fds: Record<string, number> = {
      stdin: open('/dev/null', O.RDONLY),
      stdout: log,
      stderr: log,
      ...openCgroups(cgroups.folders, open),
      ...places,
    };
    if (options.shareMap !== undefined) fds.userns = open(options.shareMap, O.RDONLY);
    if (config.process.args.length === 0) {
      fds.init = memoryFile('tsv-init', initExecutable());
      opened.push(fds.init);
    }
    const steps = containerProgram({
      config,
      layers: options.layers,
      cgroups: cgroups.folders.length,
      files: options.files,
      mapShares: options.shareMap !== undefined,
      rootId: config.linux.uidMappings[0]?.hostID ?? 0,
      lastCapability: lastCapability(),
    });
    const builder = fork({ fds, steps }, startFailure(options.name, config));
    const builderGone = waitExit(builder.pid);
    let exited: Promise<ExitStatus | undefined> | undefined;
    try {
      await builder.reported('unshared');
      writeFileSync(`/proc/${builder.pid}/uid_map`, mapText(config.linux.uidMappings));
      writeFileSync(`/proc/${builder.pid}/gid_map`, mapText(config.linux.gidMappings));
      await options.connect(builder.pid);
      builder.go();
      const pid = await builder.reported('forked');
      const process = processRef(pid);
      exited = waitExit(pid);
      // PID 1 waits for its second `go`; were this agent killed now, it would end.
      if (process !== undefined) await options.record(process);
      builder.go();
      await builder.executed;
      if (process === undefined)
        throw new TsvError('TSV_CONTAINER_START', `${options.name}: its command ended at once`);
      return { process, exited, cgroups };
    } catch (error) {
      // Whatever has begun is over before anybody is told.
      builder.abandon();
      await Promise.all([builderGone, exited]);
      removeCgroups(options.layout, config.linux.cgroupsPath);
      throw error;
    } finally {
      builder.abandon();
      await builderGone;
    }
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/**
 * The files that a process joins its cgroups by. In v1 that is `tasks`: one thread that moves itself does not wait for the
 * kernel to hold all others up, as `cgroup.procs` does for several milliseconds (kernel/cgroup/cgroup.c,
 * cgroup_procs_write_start). The child has one thread.
 */
function openCgroups(
  folders: readonly string[],
  open: (path: string, flags: number) => number,
): Record<string, number> {
  const joinFile = (folder: string) => join(folder, existsSync(join(folder, 'tasks')) ? 'tasks' : 'cgroup.procs');
  return Object.fromEntries(folders.map((folder, i) => [`cgroup${i}`, open(joinFile(folder), O.WRONLY)]));
}

const startFailure =
  (name: string, config: OciConfig): StepFailure =>
  (step, errno) => {
    const command = config.process.args[0];
    if (step.startsWith('execve ') && command !== undefined) return commandFailure(name, command, errno);
    return new TsvError('TSV_CONTAINER_START', `${name} could not be started`, { details: [`${step}: ${errno}`] });
  };

/** Exit codes as shells give them: 127 not found, 126 found but not executable. */
export function commandFailure(machine: string, command: string, errno: string): TsvError {
  const missing = errno === 'ENOENT' || errno === 'ENOTDIR';
  return new TsvError(
    'TSV_COMMAND_NOT_FOUND',
    missing ? `${machine} has no command '${command}'` : `${machine} cannot execute '${command}' (${errno})`,
    {
      exitCode: missing ? 127 : 126,
    },
  );
}

export interface ExecOptions {
  readonly name: string;
  readonly initPid: number;
  readonly argv: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: UserIds;
  readonly terminal: boolean;
  /** The command's descriptors 0, 1, 2. */
  readonly stdio: { readonly stdin: number; readonly stdout: number; readonly stderr: number };
  readonly capabilities: readonly string[];
  readonly cgroupFolders: readonly string[];
}

export interface StartedCommand {
  readonly pid: number;
  readonly exited: Promise<ExitStatus | undefined>;
}

/** Runs a command in a running container. Returns when it has been executed. */
export async function execInContainer(options: ExecOptions): Promise<StartedCommand> {
  const opened: number[] = [];
  const open = (path: string, flags: number): number => {
    const fd = openSync(path, flags);
    opened.push(fd);
    return fd;
  };
  try {
    const target = syscall('pidfd_open', `entering ${options.name}`, options.initPid, 0);
    opened.push(target);
    const fds = { ...options.stdio, target, ...openCgroups(options.cgroupFolders, open) };
    const steps = execProgram({ ...options, cgroups: options.cgroupFolders.length, lastCapability: lastCapability() });
    const child = fork({ fds, steps }, (step, errno) => {
      if (step.startsWith('execve ')) return commandFailure(options.name, options.argv[0] ?? '', errno);
      if (step.includes('# working directory'))
        return new TsvError('TSV_COMMAND_NOT_FOUND', `${options.name}: folder ${options.cwd}: ${errno}`, {
          exitCode: 126,
        });
      return new TsvError('TSV_SYSCALL', `${options.name} could not be entered`, { details: [`${step}: ${errno}`] });
    });
    const entererGone = waitExit(child.pid);
    try {
      const pid = await child.reported('forked');
      const exited = waitExit(pid);
      await child.executed;
      return { pid, exited };
    } finally {
      await entererGone;
    }
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** A pseudo-terminal of the container itself: the master for us, the slave for the command (ioctl_tty(2)). */
export function openTerminal(ptmx: number): number {
  const TIOCSPTLCK = 0x40045431;
  const TIOCGPTPEER = 0x5441;
  withBytes(new Uint8Array(4), (address) => syscall('ioctl', 'unlocking a terminal', ptmx, TIOCSPTLCK, address));
  return syscall('ioctl', 'opening a terminal', ptmx, TIOCGPTPEER, O.RDWR | O.NOCTTY);
}

export function resizeTerminal(master: number, cols: number, rows: number): void {
  const TIOCSWINSZ = 0x5414;
  const size = Buffer.alloc(8);
  size.writeUInt16LE(rows, 0);
  size.writeUInt16LE(cols, 2);
  withBytes(size, (address) => syscall('ioctl', 'resizing a terminal', master, TIOCSWINSZ, address));
}
