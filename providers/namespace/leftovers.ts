import { signalProcess } from '../../src/sys/children.ts';
import { pidNamespace, processesByNamespace } from '../../src/sys/proc.ts';
import { processRef, processStat } from '../../src/sys/process.ts';

const SIGKILL = 9;

/**
 * Ends what commands of an agent that is gone left running in a container: a step that is run again must not run twice.
 * What such a command left in the background on purpose belongs to the container's PID 1 by now, and stays.
 */
export function endLeftovers(initPid: number): void {
  for (const pid of findLeftovers(initPid)) signalProcess(processRef(pid), SIGKILL);
}

/**
 * Processes of the container whose ancestors lead out of it: they were started from outside.
 * Only what provably is in the container counts: a process that may not be looked at is somebody else's.
 */
export function findLeftovers(initPid: number): number[] {
  const namespace = pidNamespace(initPid);
  if (namespace === undefined || namespace === pidNamespace(process.pid)) return [];
  const parents = new Map<number, number>();
  for (const pid of processesByNamespace().get(namespace) ?? []) {
    const stat = pid === initPid ? undefined : processStat(pid);
    if (stat !== undefined) parents.set(pid, stat.ppid);
  }
  const cameFromOutside = (pid: number): boolean => {
    const parent = parents.get(pid);
    if (parent === undefined || parent === initPid) return false;
    return parents.has(parent) ? cameFromOutside(parent) : true;
  };
  return [...parents.keys()].filter(cameFromOutside);
}
