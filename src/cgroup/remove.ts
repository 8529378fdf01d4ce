import { dirname, join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { type CgroupFiles, errnoOf, isForbidden, isGone, kernelFiles, unlessErrno } from './files.ts';
import type { Cgroup, CgroupMember } from './place.ts';
import { cgroupProcesses, foldersBelow } from './processes.ts';
import { keyed, pause, untilFile } from './wait.ts';

export interface RemoveOptions {
  /** Also the folders between the container's and its base, as long as nothing else is in them. */
  readonly parents?: boolean;
  readonly timeoutMs?: number;
}

/**
 * Removes the container's cgroup and those that it made in it; gone is success. The caller has ended the processes: what
 * the kernel still has to do about them is waited for.
 * @throws TSV_CGROUP when something is still in it after `timeoutMs`
 */
export async function removeCgroup(
  cgroup: Cgroup,
  { parents = false, timeoutMs = 5000 }: RemoveOptions = {},
  files: CgroupFiles = kernelFiles,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  // v2 announces when it is empty, and v1 is empty then too.
  for (const member of cgroup.members.toSorted((a, b) => b.version - a.version)) {
    for (let attempt = 1; !removeTree(member.folder, files); attempt++) {
      const left = deadline - performance.now();
      if (left <= 0) throw stillThere(cgroup, member, timeoutMs, files);
      const isEmpty = (text: string | undefined) => keyed(text, 'populated') !== '1';
      if (member.version === 2) await untilFile(join(member.folder, 'cgroup.events'), isEmpty, left, files);
      await pause(attempt);
    }
    if (parents) removeParents(member, files);
  }
}

/** false: something in it is still busy. */
function removeTree(folder: string, files: CgroupFiles): boolean {
  if (removeOne(folder, files)) return true;
  return foldersBelow(folder, files)
    .reverse()
    .every((below) => removeOne(below, files));
}

/** EBUSY: processes or other cgroups are in it. */
function removeOne(folder: string, files: CgroupFiles): boolean {
  return unlessErrno(['EBUSY', 'ENOTEMPTY'], () => {
    try {
      files.removeFolder(folder);
    } catch (error) {
      if (isForbidden(error)) {
        throw new TsvError('TSV_CGROUP', `the cgroup ${folder} may not be removed here: ${errnoOf(error)}`, {
          cause: error,
        });
      }
      if (!isGone(error)) throw error;
    }
  });
}

function removeParents({ base, folder }: CgroupMember, files: CgroupFiles): void {
  for (let at = dirname(folder); at !== base && at.startsWith(`${base}/`); at = dirname(at)) {
    if (files.children(at).length > 0 || !files.writable(dirname(at)) || !removeOne(at, files)) return;
  }
}

function stillThere(cgroup: Cgroup, member: CgroupMember, timeoutMs: number, files: CgroupFiles): TsvError {
  const pids = cgroupProcesses(cgroup, files);
  return new TsvError('TSV_CGROUP', `the cgroup ${member.folder} could not be removed within ${timeoutMs} ms`, {
    details: [
      pids.length === 0
        ? `something in it is busy${files.exists(member.folder) ? '' : ', and it is gone now'}`
        : `processes are still in it: ${pids.slice(0, 20).join(' ')}`,
    ],
  });
}
