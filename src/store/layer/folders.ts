import { chownAt, mkdirAt, openAt, openInRoot } from '../../sys/files.ts';
import { O } from '../../sys/flags.ts';
import { OpenFolders } from '../../sys/open-folders.ts';
import { check } from './failures.ts';
import { refused } from './names.ts';

const ENOENT = 2;
const ENOTDIR = 20;
const ELOOP = 40;

/**
 * Descriptors of folders below a root. A path is resolved by the kernel as if that were the root of all files, so it
 * may lead through any link and never out. Folders that are missing are made.
 */
export class Folders {
  /** How many were made because they were missing. */
  made = 0;
  private readonly open = new OpenFolders();
  private readonly root: number;
  /** Who owns what is made: root of the sandbox. */
  private readonly owner: { readonly uid: number; readonly gid: number };

  constructor(root: number, owner: { uid: number; gid: number }) {
    this.root = root;
    this.owner = owner;
  }

  /** The folder of these parts, made if need be. The descriptor is good until a few other folders were asked for. */
  get(parts: readonly string[]): number {
    return this.find(parts) ?? this.make(parts);
  }

  /** As `get`, but undefined where there is none. */
  find(parts: readonly string[]): number | undefined {
    if (parts.length === 0) return this.root;
    const path = parts.join('/');
    const known = this.open.get(path);
    if (known !== undefined) return known;
    const fd = openInRoot(this.root, path, O.RDONLY | O.DIRECTORY);
    if (fd === -ENOENT) return undefined;
    if (fd === -ENOTDIR) throw refused(path, 'not a folder, and the archive has something in it');
    if (fd === -ELOOP) throw refused(path, 'symbolic links that lead in a circle');
    check(fd, 'opening a folder', path);
    this.keep(path, fd);
    return fd;
  }

  /** What was opened may have other names now, or none: paths are resolved anew. All but `inUse` are closed. */
  forget(...inUse: readonly number[]): void {
    this.open.forget(...inUse);
  }

  /** A folder that was just made or opened by its parent. */
  keep(path: string, fd: number): void {
    this.open.keep(path, fd);
  }

  private make(parts: readonly string[]): number {
    // The first part that is missing: by halves, a hostile path has two thousand of them.
    let there = 0;
    for (let missing = parts.length; missing - there > 1; ) {
      const middle = (there + missing) >> 1;
      if (this.find(parts.slice(0, middle)) === undefined) missing = middle;
      else there = middle;
    }
    let folder = this.find(parts.slice(0, there)) ?? this.root;
    for (; there < parts.length; there++) {
      const name = parts[there] ?? '';
      const path = parts.slice(0, there + 1).join('/');
      // EEXIST: a link that leads to nothing.
      check(mkdirAt(folder, name, 0o755), 'making a folder', path);
      this.made++;
      check(chownAt(folder, name, this.owner.uid, this.owner.gid), 'giving a folder its owner', path);
      folder = check(openAt(folder, name, O.RDONLY | O.DIRECTORY), 'opening a folder', path);
      this.keep(path, folder);
    }
    return folder;
  }
}
