import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { parseStat, ticksPerSecond } from './proc-text.ts';

/*
 * Looking at processes of this host by /proc. A process may end between any two looks, and not every one is this user's to
 * look at: what cannot be read reads as undefined.
 */

/** A file of /proc/PID. */
export function readProc(pid: number, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return undefined;
  }
}

export function allPids(): number[] {
  return readdirSync('/proc').flatMap((name) => {
    const pid = Number(name);
    return Number.isInteger(pid) ? [pid] : [];
  });
}

/** As much as the kernel lets a program start with in one string. */
const start = Buffer.allocUnsafe(128 << 10);

/** Like {@link readProc}, of its first 128 KiB as latin1, in as few system calls as can be: for looking at all processes. */
export function readProcStart(pid: number, name: string): string | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(`/proc/${pid}/${name}`, 'r');
    return start.toString('latin1', 0, readSync(fd, start, 0, start.length, 0));
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Such as `pid:[4026531836]`. */
export const pidNamespace = (pid: number): string | undefined => {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
};

/** All processes that this user may look at, by their PID namespace. */
export type ProcessesByNamespace = ReadonlyMap<string, readonly number[]>;

export function processesByNamespace(): ProcessesByNamespace {
  const found = new Map<string, number[]>();
  for (const pid of allPids()) {
    const namespace = pidNamespace(pid);
    if (namespace === undefined) continue;
    const members = found.get(namespace);
    if (members === undefined) found.set(namespace, [pid]);
    else members.push(pid);
  }
  return found;
}

/** The processes of a container by its process 1, ascending: of its PID namespace, and of those that were made in it. */
export function containerProcesses(
  init: number,
  all: ProcessesByNamespace = processesByNamespace(),
): readonly number[] {
  const namespace = pidNamespace(init);
  const own = namespace === undefined ? [] : (all.get(namespace) ?? []);
  const members = new Set(own);
  const others = [...all].filter(([name]) => name !== namespace && name !== pidNamespace(process.pid));
  for (const [, pids] of others)
    if (pids.some((pid) => leadsTo(pid, members))) for (const pid of pids) members.add(pid);
  return [...members].sort((a, b) => a - b);
}

function leadsTo(pid: number, members: ReadonlySet<number>): boolean {
  for (let at = pid; at > 1; at = parseStat(readProc(at, 'stat') ?? '')?.parent ?? 0) if (members.has(at)) return true;
  return false;
}

/** Milliseconds since 1970 at which a process began, by its start in clock ticks after boot. */
export function startedAt(startTicks: number): number {
  const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
  return Date.now() - (uptime - startTicks / ticksPerSecond) * 1000;
}
