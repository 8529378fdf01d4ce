import { join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { type CgroupFiles, kernelFiles, readIfThere } from './files.ts';
import { type Cgroup, v1Member, v2Member } from './place.ts';
import { keyed, pause, untilFile } from './wait.ts';

export interface FreezeOptions {
  readonly timeoutMs?: number;
}

/**
 * Stops all processes of the container and returns when they stand still.
 * @throws TSV_CGROUP when the host has no freezer, or not all stood still in time: they run again then
 */
export async function freeze(
  cgroup: Cgroup,
  { timeoutMs = 10_000 }: FreezeOptions = {},
  files: CgroupFiles = kernelFiles,
): Promise<void> {
  const v1 = v1Member(cgroup, 'freezer');
  const done =
    v1 === undefined ? await freezeV2(cgroup, timeoutMs, files) : await freezeV1(v1.folder, timeoutMs, files);
  if (done) return;
  thaw(cgroup, files);
  throw new TsvError('TSV_CGROUP', `the container's processes could not be frozen within ${timeoutMs} ms`, {
    details: ['a process that waits for a device or for a vfork(2) freezes only afterwards', 'all of them run again'],
  });
}

/**
 * The v1 freezer announces nothing. A fork may slip through while it is FREEZING, and then only freezing again catches
 * the new process; where they keep coming, letting all of them run for a moment helps.
 */
async function freezeV1(folder: string, timeoutMs: number, files: CgroupFiles): Promise<boolean> {
  const state = join(folder, 'freezer.state');
  const deadline = performance.now() + timeoutMs;
  for (let attempt = 1; ; attempt++) {
    files.write(state, 'FROZEN');
    if (files.read(state).trim() === 'FROZEN') return true;
    if (performance.now() >= deadline) return false;
    if (attempt % 50 === 0) files.write(state, 'THAWED');
    await pause(attempt);
  }
}

function freezeV2(cgroup: Cgroup, timeoutMs: number, files: CgroupFiles): Promise<boolean> {
  const folder = freezerV2(cgroup, files);
  files.write(join(folder, 'cgroup.freeze'), '1');
  const isFrozen = (text: string | undefined) => keyed(text, 'frozen') === '1';
  return untilFile(join(folder, 'cgroup.events'), isFrozen, timeoutMs, files);
}

/** Lets them run on. What runs already, runs on. */
export function thaw(cgroup: Cgroup, files: CgroupFiles = kernelFiles): void {
  const v1 = v1Member(cgroup, 'freezer');
  if (v1 !== undefined) files.write(join(v1.folder, 'freezer.state'), 'THAWED');
  else files.write(join(freezerV2(cgroup, files), 'cgroup.freeze'), '0');
}

/** Whether the container's own cgroup is frozen, or about to be; one above it does not count. */
export function isFrozen(cgroup: Cgroup, files: CgroupFiles = kernelFiles): boolean {
  const v1 = v1Member(cgroup, 'freezer');
  if (v1 !== undefined) {
    const state = readIfThere(files, join(v1.folder, 'freezer.state'));
    if (state === undefined || state === 'THAWED') return false;
    return readIfThere(files, join(v1.folder, 'freezer.self_freezing')) !== '0';
  }
  const v2 = v2Member(cgroup);
  return v2 !== undefined && readIfThere(files, join(v2.folder, 'cgroup.freeze')) === '1';
}

/** Whether there is a freezer of the container's own. */
export function canFreeze(cgroup: Cgroup, files: CgroupFiles = kernelFiles): boolean {
  if (v1Member(cgroup, 'freezer') !== undefined) return true;
  const v2 = v2Member(cgroup);
  return v2 !== undefined && files.exists(join(v2.folder, 'cgroup.freeze'));
}

function freezerV2(cgroup: Cgroup, files: CgroupFiles): string {
  const v2 = v2Member(cgroup);
  if (v2 !== undefined && files.exists(join(v2.folder, 'cgroup.freeze'))) return v2.folder;
  throw new TsvError('TSV_CGROUP', 'the container cannot be frozen', {
    details: [
      v2 === undefined
        ? 'it has neither a cgroup of the v1 freezer nor one of cgroup v2'
        : `${v2.folder} has no cgroup.freeze: it is gone, or Linux is older than 5.2`,
    ],
  });
}
