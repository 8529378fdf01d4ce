import { closeSync, openSync } from 'node:fs';
import { folderToJoin } from '../cgroup/index.ts';
import type { ProcessRef } from '../model/state.ts';
import { type ExitStatus, waitExit, watchExit } from '../sys/children.ts';
import { CLONE, O, PR, SIGCHLD } from '../sys/flags.ts';
import { fork } from '../sys/fork.ts';
import { syscall } from '../sys/libc.ts';
import { processRef } from '../sys/process.ts';
import type { Step } from '../sys/program.ts';
import { TIOC } from '../sys/terminal.ts';
import { joinFile, lastCapability, passableCapabilities, reopenable, type Stdio } from './create.ts';
import { chownStdio, joinCgroups, pause, preserve } from './create-program.ts';
import { startFailure } from './failures.ts';
import { hasLimits, limitProcess } from './limits.ts';
import { foreignNamespaces, isPrivileged } from './namespaces.ts';
import { places } from './paths.ts';
import { becomeUser, execute, reduce } from './privileges.ts';
import type { OciProcess, OciSeccomp } from './spec.ts';
import { controlTerminal, openTerminal, terminalPlaces } from './terminal.ts';

export interface ExecOptions {
  /** For messages. */
  readonly name: string;
  /** PID 1 of the container, which runs. */
  readonly initPid: number;
  readonly process: OciProcess;
  /** What is executed, where that is not what the first argument says. */
  readonly file?: string;
  readonly seccomp?: OciSeccomp;
  readonly stdio: Stdio;
  /** Socket that the master of the process's terminal is sent to; with `terminal` and without it, stdio is a terminal. */
  readonly console?: number;
  readonly cgroupFolders: readonly string[];
  /** Its end is for whoever inherits it: `exited` never comes. */
  readonly detached?: boolean;
  readonly preserved?: readonly number[];
}

export interface ExecProgram extends Omit<ExecOptions, 'name' | 'initPid' | 'stdio' | 'console' | 'preserved'> {
  /** CLONE_* of the namespaces to enter. */
  readonly namespaces: number;
  readonly cgroups: number;
  readonly lastCapability: number;
  readonly bounding: bigint;
  readonly console: boolean;
  readonly preserved: number;
  /** Descriptors of stdio that the process's user is to own. */
  readonly ownStdio: readonly string[];
  readonly privileged: boolean;
}

const undumpable: Step = { call: 'prctl', args: [PR.SET_DUMPABLE, 0, 0, 0, 0] };

/** Enters a running container and executes a command there. Descriptor `target` is a pidfd of its PID 1. */
export function execProgram(request: ExecProgram): Step[] {
  const { process } = request;
  const terminal = process.terminal === true;
  return [
    ...joinCgroups(request.cgroups),
    // Who is in there must not look into a process that comes from outside (CVE-2016-9962).
    ...(request.privileged ? [undumpable] : []),
    { call: 'setns', args: [{ fd: 'target' }, request.namespaces], note: 'enter the container' },
    { fork: CLONE.PARENT | SIGCHLD, as: 'pid', parent: [{ report: 'forked', value: 'pid' }] },
    { call: 'setsid', args: [] },
    { call: 'umask', args: [process.user?.umask ?? 0o22] },
    ...((request.namespaces & CLONE.NEWUSER) === 0 ? [] : becomeUser({ uid: 0, gid: 0, groups: [] }, 'may')),
    ...(terminal && request.console
      ? openTerminal({
          ...(process.consoleSize === undefined ? {} : { size: process.consoleSize }),
          console: true,
          devConsole: false,
        })
      : []),
    ...chownStdio(request.ownStdio, process),
    ...(hasLimits(process) ? pause('mounted') : []),
    // A caller without privileges could not set those of such a process.
    ...(request.privileged ? [] : [undumpable]),
    ...(terminal && request.console ? controlTerminal : []),
    ...(terminal && !request.console
      ? [{ call: 'ioctl', args: [{ fd: 'stdin' }, TIOC.SCTTY, 0], note: 'TIOCSCTTY' } satisfies Step]
      : []),
    ...reduce(
      {
        process,
        ...(request.seccomp === undefined ? {} : { seccomp: request.seccomp }),
        lastCapability: request.lastCapability,
        bounding: request.bounding,
        groups: (process.user?.additionalGids?.length ?? 0) > 0 ? 'must' : 'may',
      },
      preserve(request.preserved),
    ),
    ...execute(process.args, process.env ?? [], request.file),
  ];
}

export interface StartedCommand {
  readonly pid: number;
  /** undefined when it has ended already. */
  readonly process: ProcessRef | undefined;
  readonly exited: Promise<ExitStatus | undefined>;
}

/**
 * Runs a command in a running container. Returns when it has been executed.
 * @throws TSV_COMMAND_NOT_FOUND (exit code 127 or 126), TSV_CONTAINER_START
 */
export async function execInContainer(options: ExecOptions): Promise<StartedCommand> {
  const opened: number[] = [];
  const keep = (fd: number): number => {
    opened.push(fd);
    return fd;
  };
  try {
    const namespaces = foreignNamespaces(options.initPid);
    const fds: Record<string, number> = {
      ...options.stdio,
      target: keep(syscall('pidfd_open', `entering ${options.name}`, options.initPid, 0)),
      ...places,
    };
    options.cgroupFolders.forEach((folder, i) => {
      fds[`cgroup${i}`] = keep(openSync(joinFile(folderToJoin(folder, options.initPid)), O.WRONLY | O.CLOEXEC));
    });
    if (options.console !== undefined) Object.assign(fds, { console: options.console }, terminalPlaces);
    options.preserved?.forEach((fd, i) => {
      fds[`preserved${i}`] = fd;
    });
    const steps = execProgram({
      ...options,
      namespaces,
      cgroups: options.cgroupFolders.length,
      lastCapability: lastCapability(),
      bounding: passableCapabilities((namespaces & CLONE.NEWUSER) !== 0),
      console: options.console !== undefined,
      preserved: options.preserved?.length ?? 0,
      privileged: isPrivileged(),
      ownStdio: options.process.terminal === true ? ['stdin'] : reopenable(options.stdio),
    });
    const child = fork({ fds, steps }, startFailure(options.name, options.process));
    const entererGone = waitExit(child.pid);
    try {
      const pid = await child.reported('forked');
      const process = processRef(pid);
      const { exited, forget } = watchExit(pid);
      // Who lets go of it lets somebody else hear of its end.
      if (options.detached === true) forget();
      if (hasLimits(options.process)) {
        await child.reported('mounted');
        limitProcess(pid, options.process);
        child.go();
      }
      await child.executed;
      return { pid, process, exited };
    } finally {
      child.abandon();
      await entererGone;
    }
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}
