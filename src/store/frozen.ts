import { basename, dirname, join } from 'node:path';
import { layerName } from './cache/layout.ts';
import { parseQcow2Header, readHead } from './qcow2.ts';
import { templateFiles, templatesFolder } from './template/layout.ts';

/** Whether a path is that of a disk in the store which others may lie over: of a template, or of a layer. Pure. */
export function isFrozenDisk(path: string, store: string): boolean {
  const folder = dirname(path);
  if (path !== join(folder, templateFiles.disk)) return false;
  const name = basename(folder);
  if (folder === join(templatesFolder(store), name)) return true;
  const map = basename(dirname(folder));
  return layerName(name) !== undefined && folder === join(store, 'cache', map, name);
}

/** Folders of the disks that a disk lies over, the next first. It need not be there. */
export function foldersBeneath(file: string): readonly string[] {
  const folders: string[] = [];
  for (let path = file; folders.length < 64; ) {
    const backing = backingOf(path);
    if (backing === undefined) break;
    folders.push(dirname(backing));
    path = backing;
  }
  return folders;
}

function backingOf(file: string): string | undefined {
  try {
    return parseQcow2Header(readHead(file))?.backingFile;
  } catch {
    return undefined; // it is not there, or none that lies over anything
  }
}
