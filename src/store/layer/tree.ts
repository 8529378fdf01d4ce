import { type BigIntStats, closeSync, fchmodSync, fchownSync, fstatSync, ftruncateSync, writeSync } from 'node:fs';
import {
  chownAt,
  linkAt,
  mkdirAt,
  mknodAt,
  openAt,
  openInRoot,
  setAttribute,
  symlinkAt,
  unlinkAt,
} from '../../sys/files.ts';
import { O } from '../../sys/flags.ts';
import type { UserMap } from '../../sys/userns.ts';
import { printable } from '../../tar/fields.ts';
import type { TarEntry, TarEvents } from '../../tar/reader.ts';
import { Describe } from './describe.ts';
import { check, failureOf } from './failures.ts';
import { Folders } from './folders.ts';
import type { UnpackLimits } from './limits.ts';
import { pathParts, refused, whiteoutOf } from './names.ts';
import { removeFolder } from './remove.ts';

const EEXIST = 17;
const ENOENT = 2;
const ENOTDIR = 20;
const ELOOP = 40;
const EPERM = 1;

const S_IFCHR = 0o020000;
const S_IFIFO = 0o010000;

/** A folder that gets its mode and times when everything is in it. */
interface Later {
  readonly path: string;
  readonly entry: TarEntry;
}

/**
 * Makes the files of one layer from the events of its archive, in the form that overlayfs takes as a lower layer: a
 * whiteout is a character device 0:0, a folder that hides those below has the attribute user.overlay.opaque.
 *
 * All work is done on the descriptor of a folder below `root`, found by the kernel with `root` as the root of all files,
 * and one last name in it that is never followed: so nothing outside can change, whatever the archive says.
 * The process has umask 0, and is root: of the user namespace of `map`, or of the host where `map` is `rooted`.
 */
export class LayerTree implements TarEvents {
  entries = 0;
  bytes = 0;
  private readonly root: number;
  private readonly describe: Describe;
  private readonly owner: { readonly uid: number; readonly gid: number };
  private readonly folders: Folders;
  private readonly limits: UnpackLimits;
  /** By inode. */
  private readonly later = new Map<bigint, Later>();
  private file: { readonly fd: number; readonly entry: TarEntry } | undefined;

  /** @param root descriptor of an empty folder */
  constructor(root: number, map: UserMap, limits: UnpackLimits) {
    this.root = root;
    this.describe = new Describe(map);
    this.owner = this.describe.root;
    this.limits = limits;
    this.folders = new Folders(root, this.owner);
    fchownSync(root, this.owner.uid, this.owner.gid);
    fchmodSync(root, 0o755);
  }

  /** What was left out and why, for people. */
  get skipped(): readonly string[] {
    return this.describe.skipped;
  }

  entry(entry: TarEntry): void {
    if (this.entries + this.folders.made >= this.limits.entries) {
      throw refused(entry.path, `more than ${this.limits.entries} files and folders`);
    }
    const parts = pathParts(entry.path);
    const name = parts.pop();
    if (name === undefined) {
      if (entry.type !== 'directory') throw refused(entry.path, 'no folder, in place of the root folder');
      this.describeFolder(this.root, entry, '');
    } else if (!this.whiteout(parts, name)) {
      if (!this.make(entry, parts, name)) return;
    }
    this.entries++;
  }

  data(bytes: Uint8Array, offset: number): void {
    if (this.file === undefined) return;
    const { fd, entry } = this.file;
    this.bytes += bytes.length;
    for (let at = 0; at < bytes.length; ) {
      try {
        at += writeSync(fd, bytes, at, bytes.length - at, entry.sparse ? offset + at : null);
      } catch (error) {
        throw failureOf(error, 'writing', entry.path);
      }
    }
  }

  entryEnd(): void {
    if (this.file === undefined) return;
    const { fd, entry } = this.file;
    try {
      if (entry.sparse) ftruncateSync(fd, entry.size);
      this.describe.file(fd, entry);
    } catch (error) {
      throw failureOf(error, 'writing', entry.path);
    } finally {
      this.file = undefined;
      closeSync(fd);
    }
  }

  /** The archive is over: folders get their modes and times. */
  finish(): void {
    this.folders.forget();
    for (const [ino, { path, entry }] of this.later) {
      const fd = path === '' ? this.root : openInRoot(this.root, path, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
      // A link that stood in its path may lead elsewhere now.
      if (fd === -ENOENT || fd === -ENOTDIR || fd === -ELOOP) continue;
      check(fd, 'opening a folder', path);
      try {
        if (fstatSync(fd, { bigint: true }).ino !== ino) continue;
        this.describe.fullFolder(fd, entry);
      } finally {
        if (fd !== this.root) closeSync(fd);
      }
    }
    this.later.clear();
  }

  /** Closes what is open; `root` stays the caller's. */
  close(): void {
    this.folders.forget();
    if (this.file !== undefined) closeSync(this.file.fd);
    this.file = undefined;
  }

  /** false: it was left out. */
  private make(entry: TarEntry, parts: readonly string[], name: string): boolean {
    const { path } = entry;
    if (entry.type === 'char' || entry.type === 'block') {
      this.describe.skip(path, 'a device node; no container may have devices of its image');
      return false;
    }
    const folder = this.folders.get(parts);
    if (entry.type === 'directory') {
      this.makeFolder(folder, entry, parts, name);
      return true;
    }
    if (entry.type === 'hardlink') {
      this.makeHardLink(folder, entry, name);
      return true;
    }
    const make = (): number => {
      if (entry.type === 'file') return openAt(folder, name, O.WRONLY | O.CREAT | O.EXCL, entry.mode & 0o777);
      if (entry.type === 'symlink') return symlinkAt(entry.target, folder, name);
      return mknodAt(folder, name, S_IFIFO | (entry.mode & 0o777));
    };
    let made = make();
    if (made === -EEXIST) {
      this.removeExisting(folder, name, path);
      made = make();
    }
    check(made, `making a ${entry.type}`, path);
    if (entry.type === 'file') {
      this.file = { fd: made, entry };
      return true;
    }
    this.describe.name(folder, name, entry);
    return true;
  }

  /** A folder in place of a folder is the same with other attributes; in place of anything else it replaces it. */
  private makeFolder(folder: number, entry: TarEntry, parts: readonly string[], name: string): void {
    const own = [...parts, name].join('/');
    let hides = false;
    let made = mkdirAt(folder, name, 0o755);
    if (made === -EEXIST) {
      const there = openAt(folder, name, O.RDONLY | O.DIRECTORY);
      if (there >= 0) {
        this.describeFolder(there, entry, own);
        closeSync(there);
        return;
      }
      hides = this.removeExisting(folder, name, entry.path) === 'whiteout';
      made = mkdirAt(folder, name, 0o755);
    }
    check(made, 'making a folder', entry.path);
    const fd = check(openAt(folder, name, O.RDONLY | O.DIRECTORY), 'opening a folder', entry.path);
    this.describeFolder(fd, entry, own);
    if (hides) this.setOpaque(fd, own);
    this.folders.keep(own, fd);
  }

  private makeHardLink(folder: number, entry: TarEntry, name: string): void {
    const parts = pathParts(entry.target);
    const target = parts.pop();
    const from = target === undefined ? undefined : this.folders.find(parts);
    const missing = `a hard link to ${printable(entry.target)}, which is not in this layer`;
    if (target === undefined || from === undefined) throw refused(entry.path, missing);
    let made = linkAt(from, target, folder, name);
    if (made === -EEXIST) {
      const there = statAt(from, target, entry.path);
      if (there !== undefined && there.ino === statAt(folder, name, entry.path)?.ino) return;
      this.removeExisting(folder, name, entry.path, from);
      made = linkAt(from, target, folder, name);
    }
    if (made === -ENOENT) throw refused(entry.path, missing);
    if (made === -EPERM) throw refused(entry.path, `a hard link to ${printable(entry.target)}, which is a folder`);
    check(made, 'making a hard link', entry.path);
  }

  /** Whether the entry said what is hidden instead of being a file. */
  private whiteout(parts: readonly string[], name: string): boolean {
    const whiteout = whiteoutOf(name);
    if (whiteout === undefined) return false;
    if (whiteout === 'ignored') return true;
    const path = [...parts, name].join('/');
    const folder = this.folders.get(parts);
    if (whiteout === 'folder') {
      this.setOpaque(folder, path);
      return true;
    }
    const made = mknodAt(folder, whiteout.hides, S_IFCHR);
    if (made !== -EEXIST) {
      check(made, 'making a whiteout', path);
      check(chownAt(folder, whiteout.hides, this.owner.uid, this.owner.gid), 'giving it its owner', path);
      return true;
    }
    // What this layer has itself is not hidden by it; a folder would let those below show through.
    const there = openAt(folder, whiteout.hides, O.RDONLY | O.DIRECTORY);
    if (there >= 0) {
      this.setOpaque(there, path);
      closeSync(there);
    }
    return true;
  }

  /** overlayfs.rst: with the mount option userxattr, which images are mounted with for root and users alike. */
  private setOpaque(folder: number, path: string): void {
    check(setAttribute(folder, 'user.overlay.opaque', Buffer.from('y')), 'hiding what is below it', path);
  }

  private describeFolder(fd: number, entry: TarEntry, path: string): void {
    this.describe.newFolder(fd, entry);
    this.later.set(fstatSync(fd, { bigint: true }).ino, { path, entry });
  }

  /** Makes place for a later entry of the same path. `inUse`: another folder that stays open. */
  private removeExisting(folder: number, name: string, path: string, inUse = folder): 'whiteout' | 'other' {
    const stat = statAt(folder, name, path);
    if (stat === undefined) return 'other';
    if (stat.isDirectory()) {
      check(
        removeFolder(folder, name, (ino) => this.later.delete(ino)),
        'removing a folder',
        path,
      );
      this.folders.forget(folder, inUse);
      return 'other';
    }
    check(unlinkAt(folder, name), 'removing a file', path);
    if (stat.isSymbolicLink()) this.folders.forget(folder, inUse);
    return stat.isCharacterDevice() && stat.rdev === 0n ? 'whiteout' : 'other';
  }
}

/** The name itself, should it be a link; undefined where there is none. */
function statAt(folder: number, name: string, path: string): BigIntStats | undefined {
  const fd = openAt(folder, name, O.PATH);
  if (fd === -ENOENT) return undefined;
  check(fd, 'looking at it', path);
  try {
    return fstatSync(fd, { bigint: true });
  } finally {
    closeSync(fd);
  }
}
