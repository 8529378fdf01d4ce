import { chmodSync, chownSync, existsSync, lstatSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Jail, JailMount, LaunchRequest } from '../../src/model/launch.ts';
import type { BoxRef } from '../../src/model/provider.ts';
import { findProgram } from '../../src/sys/children.ts';
import { giveFile, showFile } from '../../src/sys/own-user.ts';
import { privateFile, privateOpen } from '../../src/sys/private-open.ts';
import { firstTap } from '../../src/sys/taps.ts';
import type { NicBackend } from './arguments.ts';
import { qemuProgram } from './probe.ts';

/** What a QEMU that runs as a user of its own can reach. All of it is at the places that it has on the host. */
export interface QemuBelongings {
  /** An existing folder: {@link Jail.root}. */
  readonly root: string;
  /** Files that become its own, and that it writes. */
  readonly own: readonly string[];
  /** Folders in which it makes, or finds, sockets. */
  readonly folders: readonly string[];
  /** Files that become its own, and that it reads. */
  readonly secrets: readonly string[];
  /** Files that many of them read. */
  readonly shared: readonly string[];
  /** A file that is mapped as memory, privately: {@link memoryPath}. */
  readonly memory?: string;
  readonly accel: 'kvm' | 'tcg';
}

/** Where programs, their libraries and data are, as far as there are such folders. */
const programFolders = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32', '/nix/store', '/gnu/store'];
const loaderCache = '/etc/ld.so.cache';
const library = '/private-open.so';

/**
 * The jail of such a QEMU. Gives it what is to be its own.
 * @throws TSV_VM_START when something that is to be given away is no plain file
 */
export function qemuJail(uid: number, belongings: QemuBelongings): Jail {
  const { root, own, folders, secrets, shared, memory, accel } = belongings;
  for (const file of [...own, ...secrets]) giveFile(file, uid);
  for (const folder of folders) {
    chownSync(folder, uid, uid);
    chmodSync(folder, 0o700);
  }
  for (const file of shared) showFile(file);
  if (memory !== undefined) showFile(memory);
  const { folders: programs, links } = programsOfHost();
  const readable = (from: string, to = from): JailMount => ({ from, to, folder: false, writable: false });
  const nodes = ['/dev/null', '/dev/urandom', ...(accel === 'kvm' ? ['/dev/kvm'] : [])];
  return {
    uid,
    root,
    mounts: [
      ...programs.map((path): JailMount => ({ from: path, to: path, folder: true, writable: false, programs: true })),
      ...folders.map((path): JailMount => ({ from: path, to: path, folder: true, writable: true })),
      ...[...secrets, ...shared, ...(existsSync(loaderCache) ? [loaderCache] : [])].map((path) => readable(path)),
      ...(memory === undefined ? [] : [readable(memory, privateFile)]),
      ...own.map((path): JailMount => ({ ...readable(path), writable: true })),
    ],
    devices: nodes.map((path) => ({ path, number: statSync(path).rdev })),
    files: memory === undefined ? [] : [{ path: library, content: privateOpen }],
    links,
  };
}

/** What QEMU itself reads of a box, beside its disk. */
export const bootFiles = ({ kernel, initrd }: Pick<BoxRef, 'kernel' | 'initrd'>): string[] =>
  [kernel, initrd].filter((file) => file !== undefined);

/** With a jail: the environment, too. */
export const jailed = (jail: Jail): Required<Pick<LaunchRequest, 'env' | 'jail'>> => ({
  jail,
  env: { PATH: '/usr/bin:/bin', ...(jail.files.length === 0 ? {} : { LD_PRELOAD: library }) },
});

/** As QEMU in a jail names it. */
export const memoryPath = privateFile;

/** Of these network cards, those that are opened for a QEMU in a jail, and how it then finds them. */
export function openedTaps(nics: readonly NicBackend[]): {
  readonly taps: readonly string[];
  readonly nics: NicBackend[];
} {
  const taps: string[] = [];
  return {
    taps,
    nics: nics.map((nic) => (nic.type === 'tap' ? { ...nic, fd: firstTap + taps.push(nic.ifname) - 1 } : nic)),
  };
}

function programsOfHost(): { folders: string[]; links: Jail['links'] } {
  const there = programFolders.flatMap((path) => {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    return stat === undefined ? [] : [{ path, isLink: stat.isSymbolicLink() }];
  });
  const folders = there.filter(({ isLink }) => !isLink).map(({ path }) => path);
  const links = there.filter(({ isLink }) => isLink).map(({ path }) => ({ to: path, target: readlinkSync(path) }));
  // One that was built by hand has its data beside it: PREFIX/bin, PREFIX/share.
  const prefix = dirname(dirname(realpathSync(findProgram(qemuProgram))));
  const isThere = folders.some((folder) => `${prefix}/`.startsWith(`${folder}/`));
  return { folders: isThere ? folders : [...folders, prefix], links };
}
