import { readFileSync } from 'node:fs';
import type { ProcessRef } from '../model/state.ts';

let bootIdCache: string | undefined;

/** This boot's id (proc(5), /proc/sys/kernel/random/boot_id). */
export function bootId(): string {
  bootIdCache ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return bootIdCache;
}

/** State letter and start time of a process (proc(5), /proc/PID/stat), or undefined when there is none. */
export function processStat(pid: number): { state: string; startTime: string; ppid: number } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined; // ENOENT or ESRCH: gone
  }
  // The command name may hold spaces and brackets: fields are counted from behind its last bracket.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '?', ppid: Number(fields[1]), startTime: fields[19] ?? '' };
}

/** A lasting reference to a running process, or undefined when it is gone (a zombie counts as gone). */
export function processRef(pid: number): ProcessRef | undefined {
  const stat = processStat(pid);
  if (stat === undefined || stat.state === 'Z' || stat.state === 'X') return undefined;
  return { pid, startTime: stat.startTime, bootId: bootId() };
}

/** Whether this very process still runs: same pid, same start, same boot, and no zombie. */
export function isAlive(ref: ProcessRef | undefined): ref is ProcessRef {
  if (ref === undefined || ref.bootId !== bootId()) return false;
  return processRef(ref.pid)?.startTime === ref.startTime;
}
