import { closeSync } from 'node:fs';
import { mkdirAt, openAt, openInRoot } from '../sys/files.ts';
import { O } from '../sys/flags.ts';
import { check } from './failures.ts';

const ENOENT = 2;
/** Kept open: an archive's entries come folder by folder. */
const limit = 64;

/** Descriptors of folders below one, which stands for the root of all files. */
export class OpenFolders {
  private readonly base: number;
  /** By path, the one that was used last at the end. */
  private readonly open = new Map<string, number>();

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
    if (known !== undefined) {
      this.open.delete(path);
      this.open.set(path, known);
      return known;
    }
    const fd = openInRoot(this.base, path, O.RDONLY | O.DIRECTORY);
    return fd === -ENOENT ? undefined : this.keep(path, check(fd, path));
  }

  /** Takes a descriptor over. */
  keep(path: string, fd: number): number {
    const same = this.open.get(path);
    if (same !== undefined) closeSync(same);
    this.open.delete(path);
    if (this.open.size >= limit) {
      for (const [oldest, old] of this.open) {
        closeSync(old);
        this.open.delete(oldest);
        break;
      }
    }
    this.open.set(path, fd);
    return fd;
  }

  close(): void {
    for (const fd of this.open.values()) closeSync(fd);
    this.open.clear();
  }
}
