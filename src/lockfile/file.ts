import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { formatLock, type LockFile, lockFileName, parseLock } from './format.ts';

/** Of a lock file: thousands of images. */
const limitBytes = 1 << 20;

/**
 * The lock file of a project's folder; undefined where there is none.
 * @throws TSV_LOCK_FILE for one that is malformed, or no plain file: the folder may come from anywhere
 */
export function readLock(dir: string): LockFile | undefined {
  const file = join(dir, lockFileName);
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw unusable(file, code === 'ELOOP' ? 'it is a symbolic link' : `it cannot be read (${code})`, error);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw unusable(file, 'it is no plain file');
    if (stat.size > limitBytes) throw unusable(file, 'it is larger than any lock file');
    return parseLock(readFileSync(fd, 'utf8'), lockFileName);
  } finally {
    closeSync(fd);
  }
}

/**
 * Writes it whole or not at all.
 * @throws TSV_LOCK_FILE
 */
export function writeLock(dir: string, lock: LockFile): void {
  const file = join(dir, lockFileName);
  const text = formatLock(lock);
  const folder = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY);
  // By descriptor: another folder that takes this one's name meanwhile is not written to.
  const at = (name: string) => `/proc/self/fd/${folder}/${name}`;
  const temporary = `.${lockFileName}.${randomBytes(8).toString('hex')}.tmp`;
  try {
    const before = lstatSync(at(lockFileName), { throwIfNoEntry: false });
    if (before !== undefined && !before.isFile()) throw unusable(file, 'it is no plain file');
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    const fd = openSync(at(temporary), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
    try {
      writeSync(fd, text);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(at(temporary), at(lockFileName));
    fsyncSync(folder);
  } catch (error) {
    rmSync(at(temporary), { force: true });
    if (error instanceof TsvError) throw error;
    throw unusable(file, `it cannot be written (${(error as NodeJS.ErrnoException).code ?? String(error)})`, error);
  } finally {
    closeSync(folder);
  }
}

const unusable = (file: string, why: string, cause?: unknown): TsvError =>
  new TsvError('TSV_LOCK_FILE', `${file}: ${why}`, { hint: `look at it: ls -ld ${file}`, cause });
