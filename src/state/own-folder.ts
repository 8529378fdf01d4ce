import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { syncFolder } from '../sys/sync-folder.ts';

/**
 * An open folder that is proven to be this user's own. Its entries are reached through `/proc/self/fd/N`, which
 * does what openat(2) does: swapping the folder for a symlink after the check changes nothing.
 */
export class OwnFolder {
  readonly path: string;
  readonly fd: number;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.fd = fd;
  }

  /**
   * Opens `path`; undefined when it does not exist.
   * @throws TSV_STATE_UNSAFE for a symlink, somebody else's folder, or one that others may write
   */
  static open(path: string): OwnFolder | undefined {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    } catch (cause) {
      const code = errno(cause);
      if (code === 'ENOENT') return undefined;
      if (code === 'ELOOP' || code === 'ENOTDIR') throw unsafe(path, notAFolder(path), cause);
      if (code === 'EACCES') throw unsafe(path, 'this user may not open it', cause);
      throw cause;
    }
    const stat = fstatSync(fd);
    const mode = stat.mode & 0o777;
    const problem =
      stat.uid !== process.getuid?.()
        ? `it belongs to user ${stat.uid}, and this is user ${process.getuid?.()}`
        : mode & 0o022
          ? `others may write to it (mode 0${mode.toString(8)})`
          : undefined;
    if (problem === undefined) return new OwnFolder(path, fd);
    closeSync(fd);
    throw unsafe(path, problem);
  }

  /** The folder, made with mode 0700 when it is not there. */
  static ensure(path: string): OwnFolder {
    try {
      mkdirSync(path, { mode: 0o700 });
      syncFolder(dirname(path));
    } catch (error) {
      if (errno(error) !== 'EEXIST') throw error;
    }
    const folder = OwnFolder.open(path);
    if (folder === undefined) throw unsafe(path, 'it vanished while it was opened');
    return folder;
  }

  /** A path of `name` in this very folder, valid until {@link close}. */
  at(name: string): string {
    return `/proc/self/fd/${this.fd}/${name}`;
  }

  /**
   * Opens a plain file of this user's, never through a symlink; undefined when it does not exist (without O_CREAT).
   * @throws TSV_STATE_UNSAFE for a symlink, a pipe, a device, somebody else's file
   */
  openFile(name: string, flags: number): number | undefined {
    const shown = `${this.path}/${name}`;
    let fd: number;
    try {
      // O_NONBLOCK: opening a pipe that somebody put there must not hang.
      fd = openSync(this.at(name), flags | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0o600);
    } catch (cause) {
      const code = errno(cause);
      if (code === 'ENOENT' && !(flags & constants.O_CREAT)) return undefined;
      if (code === 'ELOOP') throw unsafe(shown, 'it is a symlink', cause);
      if (code === 'EISDIR' || code === 'ENXIO') throw unsafe(shown, 'it is not a plain file', cause);
      throw cause;
    }
    const stat = fstatSync(fd);
    if (stat.isFile() && stat.uid === process.getuid?.()) return fd;
    closeSync(fd);
    throw unsafe(shown, stat.isFile() ? `it belongs to user ${stat.uid}` : 'it is not a plain file');
  }

  /** {@link openFile} with O_CREAT, mode 0600. */
  createFile(name: string, flags: number): number {
    const fd = this.openFile(name, flags | constants.O_CREAT);
    if (fd === undefined) throw new Error(`${this.path}/${name} was not created`);
    return fd;
  }

  close(): void {
    closeSync(this.fd);
  }
}

export function errno(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

function notAFolder(path: string): string {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ? 'it is a symlink' : 'it is not a folder';
}

function unsafe(path: string, why: string, cause?: unknown): TsvError {
  return new TsvError('TSV_STATE_UNSAFE', `${path} is not safe to use: ${why}`, {
    hint: `look at it (ls -ld ${path}), then move it away or run tsv as its owner`,
    cause,
  });
}

/**
 * TSV_STATE_WRITE for a file of the state folder, naming it and the free space there; a TsvError stays as it is.
 */
export function writeFailed(file: string, cause: unknown, intact: string): TsvError {
  if (cause instanceof TsvError) return cause;
  const code = errno(cause);
  const place = dirname(dirname(file));
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new TsvError('TSV_STATE_WRITE', `${file} could not be written: ${(cause as Error).message}`, {
    details: [freeSpace(place), intact],
    hint: full
      ? `make room (df -h ${place}), then run the command again`
      : `see that ${place} can be written, then run the command again`,
    cause,
  });
}

function freeSpace(path: string): string {
  try {
    const { bavail, bsize } = statfsSync(path);
    return `free space on the file system of ${path}: ${Math.floor((bavail * bsize) / 1024)} KiB`;
  } catch (error) {
    return `free space on the file system of ${path}: unknown (${(error as Error).message})`;
  }
}
