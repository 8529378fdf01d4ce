import { join } from 'node:path';
import type { OciResources } from '../oci/spec.ts';
import type { MissingLimit } from './apply.ts';
import { updateCgroup } from './create.ts';
import { type CgroupFiles, errnoOf, isForbidden, isGone, kernelFiles, readIfThere } from './files.ts';
import { type Cgroup, v1Member, v2Member } from './place.ts';

export interface ChangedLimits {
  /** Limits that cannot be set here: none of them was in force before either. */
  readonly missing: readonly MissingLimit[];
  /** The kernel refused this one: all are as before. */
  readonly refused?: MissingLimit;
}

/**
 * Limits of a cgroup in which processes run: all of `after`, or else again all of `before`, which has the same members.
 * No process is killed for a lower limit of memory: what can be dropped or swapped is, and what is in use beyond the limit
 * even then makes it refused (EBUSY). The kernel does so by itself in v1; in v2 its OOM killer would make room.
 */
export function changeLimits(
  cgroup: Cgroup,
  before: OciResources,
  after: OciResources,
  files: CgroupFiles = kernelFiles,
): ChangedLimits {
  const limit = after.memory?.limit ?? -1;
  if (limit > 0) reclaimDownTo(cgroup, limit, files);
  const checked = after.memory === undefined ? {} : { memory: { ...after.memory, checkBeforeUpdate: true } };
  const { missing } = updateCgroup(cgroup, { ...after, ...checked }, { strict: false }, files);
  const refused = missing.find(isRefused);
  if (refused === undefined) return { missing };
  updateCgroup(cgroup, before, { strict: false }, files);
  return { missing: missing.filter((one) => !isRefused(one)), refused };
}

/** Not for want of the file or of the right to write it. */
const isRefused = ({ errno }: MissingLimit): boolean => {
  const answer = { code: errno };
  return errno !== undefined && !isGone(answer) && !isForbidden(answer);
};

/** memory.reclaim of cgroup v2, since Linux 5.19; its EAGAIN: less was to be had. */
function reclaimDownTo(cgroup: Cgroup, limit: number, files: CgroupFiles): void {
  const member = v2Member(cgroup);
  if (member === undefined || v1Member(cgroup, 'memory') !== undefined) return;
  const beyond = Number(readIfThere(files, join(member.folder, 'memory.current')) ?? 0) - limit;
  if (beyond <= 0) return;
  try {
    files.write(join(member.folder, 'memory.reclaim'), `${beyond}`);
  } catch (error) {
    if (errnoOf(error) !== 'EAGAIN' && !isGone(error) && !isForbidden(error)) throw error;
  }
}
