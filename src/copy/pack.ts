import { type BigIntStats, closeSync, fstatSync, openSync, readdirSync, readSync, type Stats } from 'node:fs';
import { openAt, openInRoot, readLink, seekTo } from '../sys/files.ts';
import { O } from '../sys/flags.ts';
import { blockBytes } from '../tar/fields.ts';
import type { TarType } from '../tar/reader.ts';
import { paxHeader, tarEnd, tarHeader, tarPadding } from '../tar/writer.ts';
import { check, copyError, copyFailure, type Notes } from './failures.ts';
import type { CopyPath } from './path.ts';
import type { Ids } from './types.ts';

export interface PackOptions {
  /** Descriptor of what stands for the root of all files: links lead anywhere below it, and never out. */
  readonly root: number;
  readonly path: CopyPath;
  readonly follow: boolean;
  readonly ids: Ids;
  /** What was left out. */
  readonly notes: Notes;
}

const ENOENT = 2;

/** Bytes that are given out at once. */
const batchBytes = 1 << 18;
/** A smaller file is read with its holes. */
const sparseFrom = 1 << 16;

/**
 * A tar archive of a file, or of a folder with all in it. Each thing is opened by its name in an open folder and never
 * through a link; nothing but files and folders is opened for reading. The buffers are the caller's.
 * @throws TSV_COPY
 */
export function* pack(options: PackOptions): Generator<Buffer, void, undefined> {
  const packer = new Packer(options);
  try {
    yield* packer.all();
  } finally {
    packer.close();
  }
}

class Packer {
  private readonly options: PackOptions;
  private batch = Buffer.allocUnsafe(batchBytes);
  private used = 0;
  /** Files with more than one name, by device and inode: their first path in the archive. */
  private readonly links = new Map<string, string>();
  private top = -1;

  constructor(options: PackOptions) {
    this.options = options;
  }

  close(): void {
    if (this.top >= 0) closeSync(this.top);
  }

  *all(): Generator<Buffer, void, undefined> {
    const { path } = this.options;
    const place = this.open();
    try {
      const stat = fstatSync(place);
      if (path.isFolder && !stat.isDirectory()) throw copyError(path.full, 'not a folder');
      const base = path.isContent ? '.' : path.name;
      if (stat.isDirectory()) {
        yield* this.header({ path: `${base}/`, type: 'directory', stat });
        yield* this.folder(place, base);
      } else yield* this.entry(place, base, stat, path.full);
    } finally {
      closeSync(place);
    }
    yield* this.put(tarEnd());
    if (this.used > 0) yield this.batch.subarray(0, this.used);
  }

  private open(): number {
    const { root, path, follow } = this.options;
    if (follow || path.isFolder) return check(openInRoot(root, path.full, O.PATH), path.full);
    const parent = check(openInRoot(root, path.parent, O.PATH | O.DIRECTORY), path.full);
    try {
      return check(openAt(parent, path.name, O.PATH), path.full);
    } finally {
      closeSync(parent);
    }
  }

  /** All below a folder, one open folder at a time, however deep it is. */
  private *folder(place: number, base: string): Generator<Buffer, void, undefined> {
    this.top = check(openInRoot(place, '.', O.RDONLY | O.DIRECTORY), this.options.path.full);
    const waiting = [''];
    for (let below = waiting.pop(); below !== undefined; below = waiting.pop()) {
      const shown = `${this.options.path.full}/${below}`;
      const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
      const folder = below === '' ? this.top : check(openInRoot(this.top, below, flags), shown);
      try {
        const prefix = below === '' ? '' : `${below}/`;
        for (const name of list(folder, shown).sort()) {
          const path = `${base}/${prefix}${name}`;
          const found = openAt(folder, name, O.PATH);
          if (found === -ENOENT) continue; // gone meanwhile
          check(found, `${shown}/${name}`);
          try {
            const stat = fstatSync(found);
            if (stat.isDirectory()) {
              yield* this.header({ path: `${path}/`, type: 'directory', stat });
              waiting.push(`${prefix}${name}`);
            } else yield* this.entry(found, path, stat, `${shown}/${name}`);
          } finally {
            closeSync(found);
          }
        }
      } finally {
        if (folder !== this.top) closeSync(folder);
      }
    }
  }

  /** Anything but a folder, by an O_PATH descriptor of itself. */
  private *entry(place: number, path: string, stat: Stats, shown: string): Generator<Buffer, void, undefined> {
    if (stat.isSocket()) return this.options.notes.add(shown, 'a socket, left out');
    if (stat.nlink > 1) {
      const { dev, ino }: BigIntStats = fstatSync(place, { bigint: true });
      const known = this.links.get(`${dev}:${ino}`);
      if (known !== undefined) return yield* this.header({ path, type: 'hardlink', stat, target: known });
      this.links.set(`${dev}:${ino}`, path);
    }
    if (stat.isSymbolicLink()) {
      const target = readLink(place);
      if (typeof target === 'number') throw copyFailure(target, shown);
      return yield* this.header({ path, type: 'symlink', stat, target });
    }
    if (!stat.isFile()) {
      const type = stat.isFIFO() ? 'fifo' : stat.isBlockDevice() ? 'block' : 'char';
      return yield* this.header({ path, type, stat });
    }
    let file: number;
    try {
      file = openSync(`/proc/self/fd/${place}`, O.RDONLY | O.NOCTTY);
    } catch (error) {
      throw copyFailure(error, shown);
    }
    try {
      yield* this.file(file, path, stat, shown);
    } finally {
      closeSync(file);
    }
  }

  private *file(file: number, path: string, stat: Stats, shown: string): Generator<Buffer, void, undefined> {
    if (stat.size === 0) {
      // Files of /proc and /sys do not say how long they are.
      const content = readSmall(file, shown);
      yield* this.header({ path, type: 'file', stat, size: content.length });
      yield* this.put(content);
      return yield* this.put(tarPadding(content.length));
    }
    const holes = stat.size >= sparseFrom && stat.blocks * 512 < stat.size ? extentsOf(file, stat.size) : undefined;
    if (holes === undefined) {
      yield* this.header({ path, type: 'file', stat, size: stat.size });
      yield* this.content(file, 0, stat.size, shown);
      return yield* this.put(tarPadding(stat.size));
    }
    // GNU tar manual, "Sparse Formats", PAX format 1.0: the map of what there is, then that.
    const numbers = [holes.length, ...holes.flatMap(({ offset, length }) => [offset, length])];
    const map = Buffer.from(numbers.map((value) => `${value}\n`).join(''));
    const bytes = holes.reduce((sum, { length }) => sum + length, 0);
    const size = Math.ceil(map.length / blockBytes) * blockBytes + bytes;
    yield* this.put(
      paxHeader([
        ['GNU.sparse.major', '1'],
        ['GNU.sparse.minor', '0'],
        ['GNU.sparse.name', path],
        ['GNU.sparse.realsize', String(stat.size)],
      ]),
    );
    yield* this.header({ path, type: 'file', stat, size });
    yield* this.put(map);
    yield* this.put(tarPadding(map.length));
    for (const { offset, length } of holes) yield* this.content(file, offset, length, shown);
    yield* this.put(tarPadding(bytes));
  }

  private *header(entry: {
    path: string;
    type: TarType;
    stat: Stats;
    target?: string;
    size?: number;
  }): Generator<Buffer, void, undefined> {
    const { path, type, stat, target = '', size = 0 } = entry;
    const { ids } = this.options;
    yield* this.put(
      tarHeader({
        path,
        type,
        target,
        mode: stat.mode & 0o7777,
        uid: ids.inside('uid', stat.uid),
        gid: ids.inside('gid', stat.gid),
        size,
        seconds: Math.floor(stat.mtimeMs / 1000),
      }),
    );
  }

  /** Exactly so many bytes of a file, whatever becomes of it meanwhile. */
  private *content(file: number, offset: number, length: number, shown: string): Generator<Buffer, void, undefined> {
    for (let done = 0; done < length; ) {
      const wanted = Math.min(length - done, batchBytes - this.used);
      let count: number;
      try {
        count = readSync(file, this.batch, this.used, wanted, offset + done);
      } catch (error) {
        throw copyFailure(error, shown);
      }
      if (count === 0) {
        this.options.notes.add(shown, 'it became shorter while it was copied; the rest is zeros');
        for (; done < length; done += blockBytes) yield* this.put(Buffer.alloc(Math.min(blockBytes, length - done)));
        return;
      }
      this.used += count;
      done += count;
      if (this.used === batchBytes) yield this.flush();
    }
  }

  private *put(bytes: Buffer): Generator<Buffer, void, undefined> {
    for (let at = 0; at < bytes.length; ) {
      const count = bytes.copy(this.batch, this.used, at);
      at += count;
      this.used += count;
      if (this.used === batchBytes) yield this.flush();
    }
  }

  private flush(): Buffer {
    const full = this.batch;
    this.batch = Buffer.allocUnsafe(batchBytes);
    this.used = 0;
    return full;
  }
}

function list(folder: number, shown: string): string[] {
  try {
    return readdirSync(`/proc/self/fd/${folder}`, { encoding: 'latin1' });
  } catch (error) {
    throw copyFailure(error, shown);
  }
}

const small = Buffer.allocUnsafe(1 << 20);

/** What a file has that says of itself that it is empty; good until the next. */
function readSmall(file: number, shown: string): Buffer {
  const content = small;
  let length = 0;
  try {
    for (let count = 1; count > 0 && length < content.length; length += count)
      count = readSync(file, content, length, content.length - length, null);
  } catch (error) {
    throw copyFailure(error, shown);
  }
  return content.subarray(0, length);
}

interface Extent {
  readonly offset: number;
  readonly length: number;
}

/** Where a file has content; undefined where its file system does not tell. The last one may be empty: it tells the end. */
function extentsOf(file: number, size: number): Extent[] | undefined {
  const ENXIO = 6;
  const extents: Extent[] = [];
  for (let at = 0; at < size; ) {
    const data = seekTo('data', file, at);
    if (data === -ENXIO) break;
    const hole = data < 0 ? data : seekTo('hole', file, data);
    if (hole < 0) return undefined;
    const end = Math.min(hole, size);
    if (data < end) extents.push({ offset: data, length: end - data });
    at = hole;
  }
  return [...extents, { offset: size, length: 0 }];
}
