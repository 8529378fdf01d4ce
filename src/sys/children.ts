import { accessSync, closeSync, constants, openSync, realpathSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { LaunchRequest } from '../model/launch.ts';
import type { ProcessRef } from '../model/state.ts';
import { CLONE, O } from './flags.ts';
import { fork, stdio } from './fork.ts';
import { enterJail, giveUpRoot } from './jail.ts';
import { type Keeper, keeperFds, underKeeper } from './keeper.ts';
import { keptFiles } from './kept-files.ts';
import { pollReadable, trySyscall, withBytes } from './libc.ts';
import { isAlive, processRef } from './process.ts';
import type { Step } from './program.ts';
import { openTaps } from './taps.ts';

/** How a process ended; undefined where it was not our child, so that the kernel does not say. */
export interface ExitStatus {
  readonly code?: number;
  readonly signal?: number;
}

/**
 * Resolves when the process is gone. A pidfd (pidfd_open(2)) becomes readable at that moment, for children and strangers
 * alike; a child is reaped here, and only here.
 */
export const waitExit = (pid: number): Promise<ExitStatus | undefined> => watchExit(pid).exited;

/** {@link waitExit} that can be given up: the process's end is then left to whoever inherits it. */
export function watchExit(pid: number): { readonly exited: Promise<ExitStatus | undefined>; forget(): void } {
  const fd = trySyscall('pidfd_open', pid, 0);
  if (fd < 0) return { exited: Promise.resolve(undefined), forget: () => {} }; // ESRCH: gone already
  let forget = (): void => {};
  const exited = new Promise<ExitStatus | undefined>((resolve) => {
    let open = true;
    const close = (): void => {
      if (!open) return;
      open = false;
      handle.stop();
      closeSync(fd);
    };
    const handle = pollReadable(fd, () => {
      if (!open) return;
      const status = reap(fd);
      close();
      resolve(status);
    });
    handle.unref();
    forget = close;
  });
  return { exited, forget };
}

/** Whether the process is gone within this time: a killed one can be held by a freezer, or by the kernel itself. */
export async function endsWithin(pid: number, timeoutMs: number): Promise<boolean> {
  const { exited, forget } = watchExit(pid);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, false);
  });
  try {
    return await Promise.race([exited.then(() => true), late]);
  } finally {
    clearTimeout(timer);
    forget();
  }
}

/** A pidfd that is waited for does not keep Node's event loop going; a command that waits for it alone must. */
export async function keepAlive<T>(work: Promise<T>): Promise<T> {
  const timer = setInterval(() => {}, 1 << 30);
  try {
    return await work;
  } finally {
    clearInterval(timer);
  }
}

/** waitid(2) on a pidfd: siginfo_t holds si_code at byte 8 and si_status at byte 24. */
function reap(pidfd: number): ExitStatus | undefined {
  const P_PIDFD = 3;
  const WEXITED = 4;
  const WNOHANG = 1;
  const CLD_EXITED = 1;
  return withBytes(new Uint8Array(128), (address, info) => {
    if (trySyscall('waitid', P_PIDFD, pidfd, address, WEXITED | WNOHANG, 0) < 0) return undefined; // ECHILD: no child of ours
    const status = info.readInt32LE(24);
    return info.readInt32LE(8) === CLD_EXITED ? { code: status } : { signal: status };
  });
}

/** Sends a signal to this very process and no other (pidfd_send_signal(2)). false: it is gone. */
export function signalProcess(ref: ProcessRef | undefined, signal: number): boolean {
  if (ref === undefined) return false;
  const fd = trySyscall('pidfd_open', ref.pid, 0);
  if (fd < 0) return false;
  try {
    // Checked after the descriptor is there: from now on the pid cannot become somebody else's.
    return isAlive(ref) && trySyscall('pidfd_send_signal', fd, signal, 0, 0) === 0;
  } finally {
    closeSync(fd);
  }
}

/** The program's absolute path, looked up in PATH. @throws TSV_HOST_MISSING */
export function findProgram(name: string, path = `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`): string {
  for (const candidate of name.includes('/') ? [name] : path.split(delimiter).map((dir) => join(dir, name))) {
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not here.
    }
  }
  throw new TsvError('TSV_HOST_MISSING', `the program '${name}' is not installed`, {
    hint: 'tsv doctor names the package',
  });
}

/** Where a launched process finds itself. */
export interface LaunchPlace {
  readonly netns?: string;
  /** Join this user namespace as its root. */
  readonly userns?: string;
}

/** Starts a process that outlives this one: own session, no inherited descriptors but the given ones. */
export async function launchProcess(request: LaunchRequest, place: LaunchPlace): Promise<ProcessRef> {
  const [name] = request.argv;
  if (name === undefined) throw new TypeError('launch: empty argv');
  const found = findProgram(name);
  const file = request.jail === undefined ? found : realpathSync(found);
  const opened: number[] = [];
  const open = (path: string, flags: number) => {
    const fd = openSync(path, flags | O.CLOEXEC, 0o600);
    opened.push(fd);
    return fd;
  };
  try {
    const O_APPEND = 0o2000;
    const output =
      request.logFile === undefined ? open('/dev/null', O.RDWR) : open(request.logFile, O.WRONLY | O.CREAT | O_APPEND);
    const extra = request.fds ?? [];
    const fds: Record<string, number> = { stdin: open('/dev/null', O.RDONLY), stdout: output, stderr: output };
    extra.forEach((fd, i) => {
      fds[`extra${i}`] = fd;
    });
    if (place.netns !== undefined) fds.netns = open(place.netns, O.RDONLY);
    if (place.userns !== undefined) fds.userns = open(place.userns, O.RDONLY);
    const keeper = request.exitDir === undefined ? undefined : silentKeeper(request.exitDir, open);
    if (keeper !== undefined) Object.assign(fds, keeperFds(keeper));
    const steps: Step[] = [
      ...(keeper === undefined ? [] : underKeeper(keeper, { builder: false })),
      { call: 'setsid', args: [] },
      ...(place.netns === undefined ? [] : [{ call: 'setns', args: [{ fd: 'netns' }, CLONE.NEWNET] } satisfies Step]),
      ...(place.userns === undefined
        ? []
        : ([
            { call: 'setns', args: [{ fd: 'userns' }, CLONE.NEWUSER] },
            { call: 'setgroups', args: [0, 0] },
            { call: 'setresgid', args: [0, 0, 0] },
            { call: 'setresuid', args: [0, 0, 0] },
          ] satisfies Step[])),
      ...openTaps(request.taps ?? []),
      ...(request.jail === undefined ? [] : enterJail(request.jail)),
      { call: 'chdir', args: [request.cwd ?? '/'] },
      ...(request.jail === undefined ? [] : giveUpRoot(request.jail.uid)),
      ...stdio(),
      ...extra.map((_, i): Step => ({ call: 'dup3', args: [{ fd: `extra${i}` }, 3 + i, 0] })),
      {
        call: 'execve',
        args: [
          file,
          { strings: [...request.argv] },
          { strings: Object.entries(request.env ?? baseEnvironment()).map(([key, value]) => `${key}=${value}`) },
        ],
      },
    ];
    const child = fork({ fds, steps });
    await child.executed;
    const ref = processRef(keeper === undefined ? child.pid : await child.reported('kept'));
    // Reap it whenever it ends; others who ask get their own notice.
    void waitExit(child.pid);
    if (ref === undefined) throw new TsvError('TSV_SANDBOX', `${name} ended at once`);
    return ref;
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** The keeper of a process that writes its log itself. */
function silentKeeper(folder: string, open: (path: string, flags: number) => number): Keeper {
  const nothing = open('/dev/null', O.RDWR);
  return {
    input: nothing,
    log: nothing,
    times: nothing,
    exit: open(join(folder, keptFiles.exit), O.WRONLY | O.CREAT | O.TRUNC | O.NOFOLLOW),
    folder: nothing,
  };
}

/** What helpers need of the environment; nothing else of the user's is passed on. */
export function baseEnvironment(): Record<string, string> {
  const kept: Record<string, string> = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  for (const name of ['HOME', 'LANG', 'TMPDIR', 'XDG_RUNTIME_DIR']) {
    const value = process.env[name];
    if (value !== undefined) kept[name] = value;
  }
  return kept;
}
