import { closeSync, fstatSync } from 'node:fs';
import { posix } from 'node:path';
import type { CopySource } from '../model/provider.ts';
import { openAt, openInRoot, readLink } from '../sys/files.ts';
import { O } from '../sys/flags.ts';
import { check, copyError } from './failures.ts';
import type { CopyPath } from './path.ts';

const ENOENT = 2;
/** As the kernel: path_resolution(7). */
const linkLimit = 40;

/** Where an archive goes to. */
export interface Destination {
  /** Descriptor of a folder, to be closed by whoever asked. */
  readonly folder: number;
  /** What the resource is called in it; undefined: everything as the archive has it. */
  readonly name: string | undefined;
}

/**
 * What a destination means for a source, as with docker cp: into a folder that is there, else as what the path says, whose
 * parent has to be there. @throws TSV_COPY
 */
export function findDestination(root: number, path: CopyPath, source: CopySource | undefined): Destination {
  const place = openInRoot(root, path.full, O.PATH);
  if (place >= 0) {
    const isFolder = fstatSync(place).isDirectory();
    closeSync(place);
    if (isFolder) {
      const folder = check(openInRoot(root, path.full, O.RDONLY | O.DIRECTORY), path.full);
      return { folder, name: source === undefined || source.name === '.' ? undefined : source.as };
    }
  } else if (place !== -ENOENT) check(place, path.full);
  if (source === undefined) throw copyError(path.full, place < 0 ? 'no such folder' : 'not a folder');
  if (place >= 0) {
    if (source.folder) throw copyError(path.full, 'a folder cannot be copied onto a file');
    if (path.isFolder) throw copyError(path.full, 'not a folder');
  } else if (path.isFolder && !source.folder) throw copyError(path.full, 'no such folder');
  return parentOf(root, path.full);
}

/** The folder in which a path's last name is or will be; a link is gone after, because what it leads to is meant. */
function parentOf(root: number, full: string): Destination {
  let path = full;
  for (let links = 0; links <= linkLimit; links++) {
    const name = posix.basename(path);
    const parent = posix.dirname(path);
    const opened = openInRoot(root, parent, O.RDONLY | O.DIRECTORY);
    if (opened === -ENOENT) throw copyError(full, `the folder ${parent} does not exist`);
    const folder = check(opened, parent);
    const place = openAt(folder, name, O.PATH);
    const target = place >= 0 && fstatSync(place).isSymbolicLink() ? readLink(place) : undefined;
    if (place >= 0) closeSync(place);
    if (typeof target !== 'string') return { folder, name };
    closeSync(folder);
    path = posix.resolve(parent, target);
  }
  throw copyError(full, 'symbolic links lead in a circle');
}
