import { join } from 'node:path';
import { type CgroupFiles, kernelFiles, readIfThere } from './files.ts';
import { foldersBelow } from './processes.ts';

/**
 * The folder by which another process joins a container's cgroup in one hierarchy: `folder`, or, where the container has
 * divided its cgroup of v2 and the kernel therefore takes no process in it (cgroups(7), "no internal processes"), the one
 * below it that its PID 1 is in.
 */
export function folderToJoin(folder: string, initPid: number, files: CgroupFiles = kernelFiles): string {
  if (!readIfThere(files, join(folder, 'cgroup.subtree_control'))) return folder;
  const holdsInit = (below: string) =>
    readIfThere(files, join(below, 'cgroup.procs'))?.split('\n').includes(String(initPid)) === true;
  return foldersBelow(folder, files).find(holdsInit) ?? folder;
}
