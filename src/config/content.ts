import { createHash, type Hash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';

export type Content = { readonly ok: true; readonly digest: string } | { readonly ok: false; readonly why: string };

/** More entries than this in one folder are not a thing to copy into a machine. */
const entryLimit = 20_000;

/**
 * sha256 over what a provisioning step takes from the host: a file's bytes and execute bit, or a folder's sorted
 * tree of names, types, permission bits, link targets and bytes. Owners and times do not count.
 * `why` completes the sentence "the script x …".
 */
export function contentDigest(path: string, options: { folders: boolean }): Content {
  if (path.includes('\0')) return { ok: false, why: 'has a NUL character in its name' };
  const hash = createHash('sha256');
  try {
    const stat = statSync(path);
    if (!stat.isDirectory()) addFile(hash, path);
    else if (options.folders) {
      hash.update(JSON.stringify(['folder', '', stat.mode & 0o7777]));
      addFolder(hash, path, '', { entries: 0 });
    } else return { ok: false, why: 'is a folder, not a file' };
  } catch (error) {
    if (error instanceof Refused) return { ok: false, why: error.message };
    return { ok: false, why: whyUnreadable(error) };
  }
  return { ok: true, digest: hash.digest('hex') };
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  ENOTDIR: 'does not exist: a part of its path is a file',
  EACCES: 'cannot be read: permission denied',
  ELOOP: 'is a symbolic link that leads in a circle',
  ENAMETOOLONG: 'has too long a name',
};

/** What went wrong with a file, to complete the sentence "the script x …". */
export const whyUnreadable = (error: unknown): string =>
  reasons[(error as NodeJS.ErrnoException).code ?? ''] ?? `cannot be read: ${String((error as Error).message)}`;

class Refused extends Error {}

function addFolder(hash: Hash, root: string, inside: string, count: { entries: number }): void {
  for (const name of readdirSync(join(root, inside)).sort()) {
    count.entries += 1;
    if (count.entries > entryLimit) throw new Refused(`holds more than ${entryLimit} files`);
    const path = join(inside, name);
    const stat = lstatSync(join(root, path));
    if (stat.isDirectory()) {
      hash.update(JSON.stringify(['folder', path, stat.mode & 0o7777]));
      addFolder(hash, root, path, count);
    } else if (stat.isSymbolicLink()) {
      hash.update(JSON.stringify(['link', path, readlinkSync(join(root, path))]));
    } else {
      hash.update(JSON.stringify(['file', path, stat.mode & 0o7777]));
      addFile(hash, join(root, path));
    }
  }
}

/** Adds length, mode and bytes. A pipe or device is refused: opening one may block or act, reading never end. */
function addFile(hash: Hash, path: string): void {
  if (!statSync(path).isFile()) throw new Refused('is neither a file nor a folder');
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Refused('is neither a file nor a folder');
    hash.update(JSON.stringify(['bytes', stat.size, stat.mode & 0o7777]));
    const buffer = Buffer.allocUnsafe(1 << 16);
    for (
      let n = readSync(fd, buffer, 0, buffer.length, null);
      n > 0;
      n = readSync(fd, buffer, 0, buffer.length, null)
    ) {
      hash.update(buffer.subarray(0, n));
    }
  } finally {
    closeSync(fd);
  }
}
