import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, readlinkSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { readXattr } from '../sys/xattr.ts';

/*
 * Layers of an overlay file system, read without mounting them (Documentation/filesystems/overlayfs.rst): what an upper
 * layer deletes (a character device 0/0 of that name) or begins anew (an opaque folder) is not seen in those below.
 * Nobody may change the layers meanwhile.
 */

const smallFileBytes = 1 << 20;
/** As many symbolic links in one path as the kernel follows (path_resolution(7)). */
const linkLimit = 40;

type Found =
  | { readonly folder: readonly string[] }
  | { readonly link: string }
  /** A file, or something else that is no folder. */
  | { readonly file: string };

/**
 * A small text file as a container of these layers would find it; the uppermost layer is the first. undefined where there
 * is nothing of that name, empty where it is something else.
 */
export function readLayers(layers: readonly string[], path: string): string | undefined {
  const words = split(path);
  /** The folders that were gone through, each as the folders of the layers that make it up. */
  let trail: (readonly string[])[] = [];
  let followed = 0;
  for (let name = words.shift(); name !== undefined; name = words.shift()) {
    if (name === '..') {
      trail.pop();
      continue;
    }
    const found = lookUp(trail.at(-1) ?? layers, name);
    if (found === undefined) return undefined;
    if ('folder' in found) {
      trail.push(found.folder);
    } else if ('file' in found) {
      return words.length === 0 ? readSmall(found.file) : undefined;
    } else {
      followed++;
      if (followed > linkLimit) return undefined;
      if (found.link.startsWith('/')) trail = [];
      words.unshift(...split(found.link));
    }
  }
  return '';
}

const split = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.');

/** A name in a folder, which is made up of these; the uppermost first. */
function lookUp(folders: readonly string[], name: string): Found | undefined {
  const merged: string[] = [];
  for (const folder of folders) {
    const path = join(folder, name);
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) continue;
    if (stat.isDirectory()) {
      merged.push(path);
      if (isOpaque(path)) break;
    } else if (isWhiteout(stat) || merged.length > 0) {
      break;
    } else {
      return stat.isSymbolicLink() ? { link: readlinkSync(path) } : { file: path };
    }
  }
  return merged.length === 0 ? undefined : { folder: merged };
}

const isWhiteout = (stat: Stats): boolean => stat.isCharacterDevice() && stat.rdev === 0;

/** Under the option `userxattr` and without it. */
const isOpaque = (path: string): boolean =>
  ['user.overlay.opaque', 'trusted.overlay.opaque'].some((name) => readXattr(path, name)?.toString('latin1') === 'y');

function readSmall(path: string): string {
  // A pipe or a device is not opened for its content, and what is there must not hang.
  if (!lstatSync(path).isFile()) return '';
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    return fstatSync(fd).size > smallFileBytes ? '' : readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}
