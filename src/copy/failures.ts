import { TsvError } from '../model/errors.ts';
import { errnoName } from '../sys/errno.ts';
import { printable } from '../tar/fields.ts';

const words: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder',
  ENOTDIR: 'not a folder',
  EISDIR: 'a folder is in its place',
  ENOTEMPTY: 'a folder is in its place',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  ENOSPC: 'no space left',
  EDQUOT: 'no space left: the quota is used up',
  EROFS: 'the file system is read-only',
  ELOOP: 'symbolic links lead in a circle',
  ENAMETOOLONG: 'the name is too long',
  EFBIG: 'too large for the file system',
  EIO: 'the disk cannot be read or written',
  EXDEV: 'it is on another file system',
};

/** @param path one character per byte */
export const copyError = (path: string, why: string): TsvError =>
  new TsvError('TSV_COPY', `${printable(path) || '/'}: ${why}`);

/** What a failed system call means for who copies. `error`: of node:fs, or an errno. */
export function copyFailure(error: unknown, path: string): unknown {
  if (error instanceof TsvError) return error;
  const code = typeof error === 'number' ? errnoName(error) : (error as NodeJS.ErrnoException).code;
  return code === undefined ? error : copyError(path, words[code] ?? code);
}

/** The result of a system call that has one. @throws TSV_COPY */
export function check(result: number, path: string): number {
  if (result < 0) throw copyFailure(-result, path);
  return result;
}

/** Words on what was left out, for people; not endless. */
export class Notes {
  private readonly texts: string[] = [];
  private more = 0;

  add(path: string, why: string): void {
    if (this.texts.length < 20) this.texts.push(`${printable(path)}: ${why}`);
    else this.more++;
  }

  get all(): readonly string[] {
    return this.more === 0 ? this.texts : [...this.texts, `and ${this.more} more`];
  }
}
