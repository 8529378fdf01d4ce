import { closeSync } from 'node:fs';

/** Kept open: an archive's entries come folder by folder. */
const limit = 64;

/** Descriptors of folders by their path; the ones that were used last stay open. */
export class OpenFolders {
  /** The one that was used last at the end. */
  private readonly open = new Map<string, number>();

  /** Good until a few other folders were kept. */
  get(path: string): number | undefined {
    const fd = this.open.get(path);
    if (fd === undefined) return undefined;
    this.open.delete(path);
    this.open.set(path, fd);
    return fd;
  }

  /** Takes a descriptor over. */
  keep(path: string, fd: number): void {
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
  }

  /** Closes all but `inUse`. */
  forget(...inUse: readonly number[]): void {
    for (const [path, fd] of this.open) {
      if (inUse.includes(fd)) continue;
      closeSync(fd);
      this.open.delete(path);
    }
  }
}
