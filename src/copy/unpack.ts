import { randomBytes } from 'node:crypto';
import { closeSync, fchmodSync, fchownSync, fstatSync, ftruncateSync, writeSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import type { CopySource } from '../model/provider.ts';
import {
  chownAt,
  linkAt,
  mkdirAt,
  mknodAt,
  openAt,
  openInRoot,
  renameAt,
  setTimes,
  setTimesAt,
  symlinkAt,
  unlinkAt,
} from '../sys/files.ts';
import { O } from '../sys/flags.ts';
import { type TarEntry, type TarEvents, TarReader } from '../tar/reader.ts';
import { type Destination, findDestination } from './destination.ts';
import { check, copyError, copyFailure, type Notes } from './failures.ts';
import { Folders } from './folders.ts';
import type { CopyPath } from './path.ts';
import type { Ids } from './types.ts';

const EEXIST = 17;
const ENOENT = 2;
const EPERM = 1;
const S_IFIFO = 0o010000;

export interface UnpackOptions {
  /** Descriptor of what stands for the root of all files. */
  readonly root: number;
  readonly path: CopyPath;
  readonly source?: CopySource;
  /** `keep`: owners as the archive says, where that is allowed. `own`: of whoever runs this. */
  readonly owners: 'keep' | 'own';
  readonly ids: Ids;
  readonly notes: Notes;
}

interface OpenFile {
  readonly fd: number;
  readonly folder: number;
  readonly name: string;
  readonly temporary: string;
  readonly entry: TarEntry;
}

/**
 * Puts the files of an archive where a destination says. Everything is made under a temporary name and renamed, so that each
 * file is there whole or as it was. All work is done on descriptors of folders below the destination and one last name that
 * is never followed: no archive gets out of it.
 */
export class Unpacker implements TarEvents {
  /** Of the files that were written. */
  bytes = 0;
  private readonly options: UnpackOptions;
  private readonly to: Destination;
  private readonly folders: Folders;
  private readonly reader = new TarReader(this);
  private readonly token = randomBytes(6).toString('hex');
  private count = 0;
  /** Folders get their modes and times when all is in them; by path. */
  private readonly later = new Map<string, { readonly entry: TarEntry; readonly ino: bigint }>();
  private file: OpenFile | undefined;

  /** @throws TSV_COPY when nothing can be copied there */
  constructor(options: UnpackOptions) {
    this.options = options;
    this.to = findDestination(options.root, options.path, options.source);
    this.folders = new Folders(this.to.folder);
  }

  /** @throws TSV_COPY; `close` is still to be called */
  push(chunk: Buffer): void {
    this.reading(() => this.reader.push(chunk));
  }

  /** The archive is over. @throws TSV_COPY */
  finish(): void {
    this.reading(() => this.reader.end());
    this.folders.close();
    // The inner ones first: an outer one may be closed to whoever runs this.
    for (const [path, { entry, ino }] of [...this.later].reverse()) this.finishFolder(path, entry, ino);
  }

  /** Leaves no file that is not whole. */
  close(): void {
    const { file } = this;
    this.file = undefined;
    if (file !== undefined) {
      closeSync(file.fd);
      unlinkAt(file.folder, file.temporary);
    }
    this.folders.close();
    closeSync(this.to.folder);
  }

  private reading(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (error instanceof TsvError && error.code === 'TSV_IMAGE')
        throw new TsvError('TSV_COPY', `not a valid tar archive: ${error.details.join('; ')}`, { cause: error });
      throw error;
    }
  }

  entry(entry: TarEntry): void {
    const parts = this.partsOf(entry.path);
    const name = parts.pop();
    if (name === undefined) {
      if (entry.type !== 'directory') throw copyError(entry.path, 'not a folder');
      return; // it is there, and stays as it is
    }
    const folder = this.folders.get(parts);
    if (entry.type === 'directory') {
      this.makeFolder(folder, entry, [...parts, name]);
      return;
    }
    if (entry.type === 'char' || entry.type === 'block') {
      this.options.notes.add(entry.path, 'a device node, left out');
      return;
    }
    const temporary = `.tsv-${this.token}-${this.count++}`;
    if (entry.type === 'file') {
      const fd = check(openAt(folder, temporary, O.WRONLY | O.CREAT | O.EXCL, 0o600), entry.path);
      this.file = { fd, folder, name, temporary, entry };
      return;
    }
    this.makeOther(folder, entry, temporary);
    this.place(folder, temporary, name, entry.path, entry.type === 'hardlink');
  }

  data(bytes: Uint8Array, offset: number): void {
    if (this.file === undefined) return;
    const { fd, entry } = this.file;
    this.bytes += bytes.length;
    try {
      for (let at = 0; at < bytes.length; )
        at += writeSync(fd, bytes, at, bytes.length - at, entry.sparse ? offset + at : null);
    } catch (error) {
      throw copyFailure(error, entry.path);
    }
  }

  entryEnd(): void {
    if (this.file === undefined) return;
    const { fd, folder, name, temporary, entry } = this.file;
    try {
      if (entry.sparse) ftruncateSync(fd, entry.size);
      const owner = this.ownerOf(entry);
      if (owner !== undefined) this.chown(() => fchownSync(fd, owner.uid, owner.gid), entry.path);
      // After the owner, whose change takes the bits of set-user-ID away.
      fchmodSync(fd, this.modeOf(entry));
      check(setTimes(fd, entry.mtime.seconds, entry.mtime.nanoseconds), entry.path);
    } catch (error) {
      throw copyFailure(error, entry.path);
    }
    this.place(folder, temporary, name, entry.path);
    this.file = undefined;
    closeSync(fd);
  }

  /** The parts of a path below the destination's folder, the resource under its new name. */
  private partsOf(path: string): string[] {
    const parts = path.split('/').filter((part) => part !== '' && part !== '.');
    if (parts.includes('..') || path.includes('\0')) throw copyError(path, 'its path leads out of the archive');
    const { source } = this.options;
    if (source === undefined) return parts;
    // What was asked for and nothing else, whatever a machine sends.
    if (source.name !== '.' && parts.shift() !== source.name) throw copyError(path, 'it was not asked for');
    return this.to.name === undefined ? parts : [this.to.name, ...parts];
  }

  private makeFolder(parent: number, entry: TarEntry, parts: readonly string[]): void {
    const name = parts.at(-1) ?? '';
    const made = mkdirAt(parent, name, 0o700);
    if (made !== -EEXIST) check(made, entry.path);
    const folder = openAt(parent, name, O.RDONLY | O.DIRECTORY);
    if (folder < 0 && made === -EEXIST) throw copyError(entry.path, 'a folder cannot be copied onto a file');
    check(folder, entry.path);
    const path = parts.join('/');
    const owner = this.ownerOf(entry);
    if (owner !== undefined) this.chown(() => fchownSync(folder, owner.uid, owner.gid), entry.path);
    this.later.set(path, { entry, ino: fstatSync(folder, { bigint: true }).ino });
    this.folders.keep(path, folder);
  }

  private finishFolder(path: string, entry: TarEntry, ino: bigint): void {
    const folder = openInRoot(this.to.folder, path, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
    if (folder < 0) return; // whoever works in there has taken it away meanwhile
    try {
      if (fstatSync(folder, { bigint: true }).ino !== ino) return;
      this.chown(() => fchmodSync(folder, this.modeOf(entry)), entry.path);
      const set = setTimes(folder, entry.mtime.seconds, entry.mtime.nanoseconds);
      if (set !== -EPERM) check(set, entry.path); // a folder of somebody else that was there before
    } catch (error) {
      throw copyFailure(error, entry.path);
    } finally {
      closeSync(folder);
    }
  }

  /** Links and pipes. */
  private makeOther(folder: number, entry: TarEntry, temporary: string): void {
    const { path, type, target, mtime } = entry;
    if (type === 'hardlink') {
      const parts = this.partsOf(target);
      const last = parts.pop();
      const from = last === undefined ? undefined : this.folders.find(parts);
      if (last === undefined || from === undefined) throw copyError(path, 'another name of a file that is not there');
      const made = linkAt(from, last, folder, temporary);
      if (made === -ENOENT) throw copyError(path, 'another name of a file that is not there');
      check(made, path);
      return;
    }
    const made =
      type === 'symlink'
        ? symlinkAt(target, folder, temporary)
        : mknodAt(folder, temporary, S_IFIFO | (entry.mode & 0o777));
    check(made, path);
    const owner = this.ownerOf(entry);
    if (owner !== undefined) {
      const changed = chownAt(folder, temporary, owner.uid, owner.gid);
      if (changed === -EPERM) this.ownersLost();
      else check(changed, path);
    }
    check(setTimesAt(folder, temporary, mtime.seconds, mtime.nanoseconds), path);
  }

  private place(folder: number, temporary: string, name: string, path: string, isLink = false): void {
    const placed = renameAt(folder, temporary, folder, name);
    // rename(2) of two names of one file does nothing; and what could not be placed must not stay.
    if (placed < 0 || isLink) unlinkAt(folder, temporary);
    check(placed, path);
  }

  private ownerOf({ uid, gid, path }: TarEntry): { uid: number; gid: number } | undefined {
    const { owners, ids } = this.options;
    if (owners === 'own') return undefined;
    const own = { uid: ids.outside('uid', uid), gid: ids.outside('gid', gid) };
    if (own.uid !== undefined && own.gid !== undefined) return { uid: own.uid, gid: own.gid };
    this.options.notes.add(path, `the owner ${uid}:${gid} does not exist here`);
    return undefined;
  }

  /** A program that somebody else's rights are given to must not give its new owner's. */
  private modeOf({ mode, type }: TarEntry): number {
    return this.options.owners === 'own' && type === 'file' ? mode & 0o1777 : mode;
  }

  private chown(change: () => void, path: string): void {
    try {
      change();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw copyFailure(error, path);
      if (this.options.owners === 'keep') this.ownersLost();
    }
  }

  private lost = false;
  private ownersLost(): void {
    if (!this.lost)
      this.options.notes.add(this.options.path.full, 'owners are not kept: only root may give files away');
    this.lost = true;
  }
}
