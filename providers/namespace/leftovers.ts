import { readdirSync, readlinkSync } from 'node:fs';
import { signalProcess } from '../../src/sys/children.ts';
import { processRef, processStat } from '../../src/sys/process.ts';

const SIGKILL = 9;

/**
 * Ends what commands of an agent that is gone left running in a container: a step that is run again must not run twice.
 * Such a command came from outside, so its parent is not in the container; what it left in the background on purpose
 * belongs to the container's PID 1 by now, and stays.
 */
export function endLeftovers(initPid: number): void {
  const namespace = pidNamespace(initPid);
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === initPid || pidNamespace(pid) !== namespace) continue;
    const stat = processStat(pid);
    if (stat !== undefined) parents.set(pid, stat.ppid);
  }
  const cameFromOutside = (pid: number): boolean => {
    const parent = parents.get(pid);
    if (parent === undefined || parent === initPid) return false;
    return parents.has(parent) ? cameFromOutside(parent) : true;
  };
  for (const pid of parents.keys()) if (cameFromOutside(pid)) signalProcess(processRef(pid), SIGKILL);
}

function pidNamespace(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined; // gone, or not ours to look at
  }
}
