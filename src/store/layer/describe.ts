import { chmodSync, closeSync, fchmodSync, fchownSync } from 'node:fs';
import { chownAt, openAt, setAttribute, setTimes, setTimesAt } from '../../sys/files.ts';
import { O } from '../../sys/flags.ts';
import type { UserMap } from '../../sys/userns.ts';
import { printable } from '../../tar/fields.ts';
import type { TarEntry } from '../../tar/reader.ts';
import { attributeOf } from './attributes.ts';
import { check } from './failures.ts';
import { type Owners, ownersOf } from './names.ts';

const EPERM = 1;
const EINVAL = 22;
const ENOTSUP = 95;

/** Reported at most; an archive may have a million. */
const skippedLimit = 50;

/** Gives what was made from an entry its owner, mode, attributes and times. @throws TSV_IMAGE, TSV_STORE */
export class Describe {
  /** Who owns what no entry describes: root of the sandbox. */
  readonly root: { readonly uid: number; readonly gid: number };
  private readonly rooted: boolean;
  private readonly owners: Owners;
  private readonly skippedTexts: string[] = [];
  private skippedCount = 0;

  constructor(map: UserMap) {
    this.rooted = map.rooted;
    this.owners = ownersOf(map);
    this.root = { uid: this.owners.uid(0, '/'), gid: this.owners.gid(0, '/') };
  }

  /** What was left out and why, for people. */
  get skipped(): readonly string[] {
    const rest = this.skippedCount - this.skippedTexts.length;
    return rest === 0 ? this.skippedTexts : [...this.skippedTexts, `and ${rest} more`];
  }

  skip(path: string, why: string): void {
    this.skippedCount++;
    if (this.skippedTexts.length < skippedLimit) this.skippedTexts.push(`${printable(path)}: ${why}`);
  }

  /** A new file, with all of its content. */
  file(fd: number, entry: TarEntry): void {
    const { uid, gid } = this.ownerOf(entry);
    // Who makes a file is its first owner; inside the user namespace that is 0, and most files are to be root's.
    if (this.rooted || uid !== 0 || gid !== 0) fchownSync(fd, uid, gid);
    // After the owner, whose change takes these bits away.
    if ((entry.mode & 0o7000) !== 0) fchmodSync(fd, entry.mode);
    this.setAttributes(fd, entry, 'all');
    check(setTimes(fd, entry.mtime.seconds, entry.mtime.nanoseconds), 'setting its times', entry.path);
  }

  /** A new name that is never opened: a symbolic link or a fifo. */
  name(folder: number, name: string, entry: TarEntry): void {
    const { path, mtime } = entry;
    const { uid, gid } = this.ownerOf(entry);
    check(chownAt(folder, name, uid, gid), 'giving it its owner', path);
    if (entry.type === 'fifo' && (entry.mode & 0o7000) !== 0) chmodAt(folder, name, entry);
    this.setAttributes(`/proc/self/fd/${folder}/${name}`, entry, 'all');
    check(setTimesAt(folder, name, mtime.seconds, mtime.nanoseconds), 'setting its times', path);
  }

  /** A folder that will be filled. */
  newFolder(fd: number, entry: TarEntry): void {
    const { uid, gid } = this.ownerOf(entry);
    fchownSync(fd, uid, gid);
    this.setAttributes(fd, entry, 'first');
  }

  /** The same folder when nothing more is put into it: its times would change, its mode and its lists be taken over. */
  fullFolder(fd: number, entry: TarEntry): void {
    fchmodSync(fd, entry.mode);
    this.setAttributes(fd, entry, 'last');
    check(setTimes(fd, entry.mtime.seconds, entry.mtime.nanoseconds), 'setting its times', entry.path);
  }

  private ownerOf(entry: TarEntry): { uid: number; gid: number } {
    return { uid: this.owners.uid(entry.uid, entry.path), gid: this.owners.gid(entry.gid, entry.path) };
  }

  private setAttributes(file: number | string, entry: TarEntry, which: 'all' | 'first' | 'last'): void {
    for (const [name, text] of entry.xattrs) {
      if (which !== 'all' && (which === 'last') !== name.startsWith('system.posix_acl_')) continue;
      const label = `the attribute ${printable(name)}`;
      const value = Buffer.from(text, 'latin1');
      const attribute = attributeOf(name, value, this.owners, this.rooted, entry.path);
      if ('skip' in attribute) {
        this.skip(entry.path, `${label}: ${attribute.skip}`);
        continue;
      }
      const result = setAttribute(file, name, attribute.value);
      // user.* on a link, a list that the file system does not keep or that names ids from outside the sandbox.
      if (result === -ENOTSUP || result === -EPERM || result === -EINVAL)
        this.skip(entry.path, `${label}: not possible here`);
      else check(result, `setting ${label}`, entry.path);
    }
  }
}

/** Of something that may not be opened. Its descriptor is of no use to fchmod(2), but its name in /proc is. */
function chmodAt(folder: number, name: string, entry: TarEntry): void {
  const fd = check(openAt(folder, name, O.PATH), 'giving it its mode', entry.path);
  try {
    chmodSync(`/proc/self/fd/${fd}`, entry.mode);
  } finally {
    closeSync(fd);
  }
}
