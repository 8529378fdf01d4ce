import { join } from 'node:path';
import { type CgroupFiles, kernelFiles, readIfThere } from './files.ts';
import type { Cgroup } from './place.ts';

/**
 * Numbers of the processes in the container's cgroup and below it, in all hierarchies, ascending. Processes that this
 * process's PID namespace does not show are not among them.
 */
export function cgroupProcesses(cgroup: Cgroup, files: CgroupFiles = kernelFiles): number[] {
  const pids = new Set<number>();
  for (const { folder } of cgroup.members) {
    for (const below of foldersBelow(folder, files)) {
      // A threaded cgroup does not say: its processes are in the list of the one above that is not.
      for (const line of (readIfThere(files, join(below, 'cgroup.procs')) ?? '').split('\n')) pids.add(Number(line));
    }
  }
  pids.delete(0);
  return [...pids].sort((a, b) => a - b);
}

/** The folder and all cgroups below it, each before its own. */
export function foldersBelow(folder: string, files: CgroupFiles): string[] {
  return [folder, ...files.children(folder).flatMap((name) => foldersBelow(join(folder, name), files))];
}
