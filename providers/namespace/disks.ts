import { closeSync, existsSync, mkdirSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { performance } from 'node:perf_hooks';
import { pause } from '../../src/cgroup/wait.ts';
import { TsvError } from '../../src/model/errors.ts';
import type { Disk } from '../../src/model/project.ts';
import type { MachineContext } from '../../src/model/provider.ts';
import { diskImage } from '../../src/state/paths.ts';
import { tryLockExclusive } from '../../src/sys/flock.ts';
import { attachLoop, type LoopDevice, loopOf } from '../../src/sys/loop.ts';
import { newMount } from '../../src/sys/new-mount.ts';
import { type DiskImage, imageFiles, makeImage, openImage, prepareImage } from './disk-image.ts';

/*
 * Disks of containers: an image file each, with a file system of its own, on a loop device that goes with its last mount.
 *
 * Whoever uses an image holds its lock (flock(2)): this process, the programs that it runs on it, and then the loop device,
 * for which the kernel keeps the same open file. So an image that is free is mounted nowhere, whoever was killed when.
 */

/** Where a disk is, and where it is seen. */
export interface DiskPlace {
  /** Absolute, in the container. */
  readonly path: string;
  /** Its image, on the host. */
  readonly file: string;
}

export interface MountedDisk extends DiskPlace {
  /** Descriptor of its mount, which is nowhere yet. */
  readonly mount: number;
}

export const diskPlaces = ({ machine, dir }: Pick<MachineContext, 'machine' | 'dir'>): DiskPlace[] =>
  machine.disks.flatMap((disk) => (disk.mount === undefined ? [] : [{ path: disk.mount, file: diskImage(dir, disk) }]));

/** Of the previous run: somebody may copy a file out of it, still. */
const busyMs = 10_000;

/**
 * Makes the disks that are not there, mends and grows those that are, and mounts them: nowhere yet.
 * @param owner of a new disk's root, by the container's ids
 * @throws TSV_CONTAINER_START, TSV_UNSUPPORTED for one that would become smaller, TSV_HOST_MISSING
 */
export async function mountDisks(
  { machine, dir }: Pick<MachineContext, 'machine' | 'dir'>,
  owner: DiskImage['owner'],
  signal: AbortSignal,
  notice: (text: string) => void,
): Promise<readonly MountedDisk[]> {
  const mounted: MountedDisk[] = [];
  try {
    for (const disk of machine.disks) {
      signal.throwIfAborted();
      const file = diskImage(dir, disk);
      const image = { file, words: `${machine.name}: its disk ${disk.name}`, sizeBytes: disk.sizeBytes, owner };
      if (disk.mount === undefined) throw new TsvError('TSV_INTERNAL', `${image.words} has no path`);
      takeFromOtherPlace(dir, disk);
      if (!existsSync(file)) await makeImage(image);
      mounted.push({ path: disk.mount, file, mount: await mount(image, signal, notice) });
    }
    return mounted;
  } catch (error) {
    for (const disk of mounted) closeSync(disk.mount);
    throw error;
  }
}

/** `keep` has changed, or another machine of this name has left it. */
function takeFromOtherPlace(dir: string, disk: Disk): void {
  const file = diskImage(dir, disk);
  const other = diskImage(dir, { ...disk, keep: disk.keep !== true });
  if (existsSync(file) || !existsSync(other)) return;
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const to = imageFiles(file);
  for (const [index, from] of imageFiles(other).entries()) if (existsSync(from)) renameSync(from, to[index] ?? file);
}

async function mount(image: DiskImage, signal: AbortSignal, notice: (text: string) => void): Promise<number> {
  const fd = openImage(image);
  try {
    await lock(image, fd, signal);
    const mended = await prepareImage(image, fd);
    if (mended !== undefined) notice(mended);
    const { path, fd: device } = attach(image, fd);
    try {
      return newMount('ext4', path, ['discard']);
    } catch (cause) {
      throw new TsvError('TSV_CONTAINER_START', `${image.words} could not be mounted`, {
        details: [image.file, ...(cause instanceof Error ? [cause.message] : [])],
        hint: 'dmesg | tail   # where the kernel says why',
        cause,
      });
    } finally {
      closeSync(device);
    }
  } finally {
    closeSync(fd);
  }
}

async function lock({ file, words }: DiskImage, fd: number, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + busyMs;
  const busy = (who: string) =>
    new TsvError('TSV_CONTAINER_START', `${words} is in use`, {
      details: [who],
      hint: `fuser -vm ${loopOf(file) ?? file}   # shows by whom`,
    });
  for (let attempt = 0; !tryLockExclusive(fd); attempt++) {
    if (performance.now() > deadline) throw busy(`${file} has been locked for ${busyMs / 1000} seconds`);
    signal.throwIfAborted();
    await pause(attempt);
  }
  // One that somebody else has made: two mounts of one file system destroy it.
  const device = loopOf(file);
  if (device !== undefined) throw busy(`${file} is ${device}, which tsv has not made`);
}

function attach({ file, words }: DiskImage, fd: number): LoopDevice {
  try {
    return attachLoop(fd, file);
  } catch (cause) {
    throw new TsvError('TSV_HOST_MISSING', `${words} gets no loop device`, {
      details: [cause instanceof Error ? cause.message : String(cause)],
      hint: 'sudo modprobe loop',
      cause,
    });
  }
}
