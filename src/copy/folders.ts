import { mkdirAt, openAt, openInRoot } from '../sys/files.ts';
import { O } from '../sys/flags.ts';
import { OpenFolders } from '../sys/open-folders.ts';
import { check } from './failures.ts';

const ENOENT = 2;

/** Descriptors of folders below one, which stands for the root of all files. */
export class Folders {
  private readonly base: number;
  private readonly open = new OpenFolders();

  constructor(base: number) {
    this.base = base;
  }

  /** Made, with its parents, if need be. Good until a few other folders were asked for. */
  get(parts: readonly string[]): number {
    const there = this.find(parts);
    if (there !== undefined) return there;
    const parent = this.get(parts.slice(0, -1));
    const path = parts.join('/');
    const name = parts.at(-1) ?? '';
    check(mkdirAt(parent, name, 0o755), path);
    return this.keep(path, check(openAt(parent, name, O.RDONLY | O.DIRECTORY), path));
  }

  find(parts: readonly string[]): number | undefined {
    if (parts.length === 0) return this.base;
    const path = parts.join('/');
    const known = this.open.get(path);
    if (known !== undefined) return known;
    const fd = openInRoot(this.base, path, O.RDONLY | O.DIRECTORY);
    return fd === -ENOENT ? undefined : this.keep(path, check(fd, path));
  }

  /** Takes a descriptor over. */
  keep(path: string, fd: number): number {
    this.open.keep(path, fd);
    return fd;
  }

  close(): void {
    this.open.forget();
  }
}
