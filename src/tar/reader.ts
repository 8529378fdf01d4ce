import {
  blockBytes,
  checkSum,
  decimal,
  isZero,
  malformed,
  nameOf,
  numberField,
  paxRecords,
  paxTime,
  printable,
  type Time,
  textField,
} from './fields.ts';
import { type Extent, SparseText, sparseMap } from './sparse.ts';

/*
 * Why no library: of tar-stream and tar, neither reads sparse files (both formats of GNU tar are in images) nor gives
 * xattrs with their bytes as they are, both keep names as UTF-8 text, which not every name is, and times as a Date, which
 * has no nanoseconds. What they offer besides is unpacking with paths that are checked as text; here the kernel does it.
 */

export type TarType = 'file' | 'hardlink' | 'symlink' | 'char' | 'block' | 'directory' | 'fifo';

export interface TarEntry {
  readonly type: TarType;
  /** As in the archive, one character per byte. */
  readonly path: string;
  /** Of links; empty for everything else. */
  readonly target: string;
  /** The twelve bits of chmod(2). */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Time;
  /** Of a file, with its holes. */
  readonly size: number;
  /** Whether it has holes: what no data is given for. */
  readonly sparse: boolean;
  /** Names as in xattr(7), values with one character per byte. */
  readonly xattrs: readonly (readonly [name: string, value: string])[];
}

export interface TarEvents {
  entry(entry: TarEntry): void;
  /** Content of the last entry, if it is a file; `offset` is where in it. The bytes are the reader's again afterwards. */
  data(bytes: Uint8Array, offset: number): void;
  /** The last entry is complete. */
  entryEnd(): void;
}

/** Of one extended header, long name or map of holes; the same limit as in Go's archive/tar. */
const metaBytes = 1 << 20;

const types: Readonly<Record<string, TarType>> = {
  '\0': 'file',
  '0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

/** What stands before an entry and is about it. */
interface Ahead {
  pax?: readonly [string, string][];
  longName?: string;
  longTarget?: string;
}

type State =
  | { readonly is: 'header' }
  | { readonly is: 'meta'; readonly kind: 'x' | 'g' | 'L' | 'K'; readonly size: number }
  /** GNU's old sparse format: more of the map, in blocks of its own behind the header. */
  | { readonly is: 'oldMap'; readonly header: Buffer; readonly extents: Extent[]; readonly realSize: number }
  /** PAX sparse format 1.0: the map is the beginning of the data. */
  | { readonly is: 'newMap'; readonly entry: TarEntry; readonly map: SparseText; stored: number }
  | {
      readonly is: 'data';
      readonly extents: readonly Extent[];
      index: number;
      done: number;
      left: number;
      padding: number;
    }
  | { readonly is: 'padding'; left: number }
  | { readonly is: 'firstZero' }
  | { readonly is: 'end' };

/**
 * Reads a tar archive: bytes in, in any pieces, events out. Formats: v7, POSIX ustar and pax, star, GNU with long names,
 * base-256 numbers and all its kinds of sparse files. Where readers differ it reads as Go's archive/tar does, which is
 * what images are made and read with elsewhere: two readings of one archive are an attack (CVE-2025-62518).
 * Global headers are passed over, as everywhere with images. Does nothing but call `events`.
 */
export class TarReader {
  private state: State = { is: 'header' };
  private ahead: Ahead = {};
  /** What has come of the piece that is wanted whole. */
  private held = Buffer.alloc(blockBytes);
  private heldBytes = 0;
  private readonly events: TarEvents;

  constructor(events: TarEvents) {
    this.events = events;
  }

  /** @throws TSV_IMAGE */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      const { state } = this;
      if (state.is === 'end') return; // archives are filled up to a whole record, with anything
      if (state.is === 'data') at += this.pushData(state, chunk, at);
      else if (state.is === 'padding') {
        const skipped = Math.min(state.left, chunk.length - at);
        at += skipped;
        state.left -= skipped;
        if (state.left === 0) this.state = { is: 'header' };
      } else {
        const wanted = state.is === 'meta' ? padded(state.size) : blockBytes;
        const piece = this.collect(chunk, at, wanted);
        at += piece.used;
        if (piece.whole !== undefined) this.pushWhole(state, piece.whole);
      }
    }
  }

  /** The archive is over. @throws TSV_IMAGE when it is cut off */
  end(): void {
    // umoci ends an archive with the last byte of the last file; Go's archive/tar takes that for the end, too.
    const complete = ['end', 'header', 'firstZero', 'padding'].includes(this.state.is);
    if (!complete || this.heldBytes > 0 || this.hasAhead) throw malformed('the archive is cut off');
  }

  private get hasAhead(): boolean {
    const { pax, longName, longTarget } = this.ahead;
    return pax !== undefined || longName !== undefined || longTarget !== undefined;
  }

  private collect(chunk: Buffer, at: number, wanted: number): { used: number; whole?: Buffer } {
    const there = chunk.length - at;
    if (this.heldBytes === 0 && there >= wanted) return { used: wanted, whole: chunk.subarray(at, at + wanted) };
    if (this.held.length < wanted) {
      const larger = Buffer.alloc(wanted);
      this.held.copy(larger, 0, 0, this.heldBytes);
      this.held = larger;
    }
    const used = Math.min(wanted - this.heldBytes, there);
    chunk.copy(this.held, this.heldBytes, at, at + used);
    this.heldBytes += used;
    if (this.heldBytes < wanted) return { used };
    this.heldBytes = 0;
    return { used, whole: this.held.subarray(0, wanted) };
  }

  private pushWhole(state: Exclude<State, { is: 'data' | 'padding' | 'end' }>, bytes: Buffer): void {
    switch (state.is) {
      case 'header':
        if (isZero(bytes)) {
          if (this.hasAhead) throw malformed('an extended header without its entry');
          this.state = { is: 'firstZero' };
        } else this.header(bytes);
        return;
      case 'firstZero':
        if (!isZero(bytes)) throw malformed('a block of zeros between entries');
        this.state = { is: 'end' };
        return;
      case 'meta':
        this.meta(state.kind, bytes.subarray(0, state.size));
        this.state = { is: 'header' };
        return;
      case 'oldMap':
        this.oldMap(state, bytes, 21, 0, 504);
        return;
      case 'newMap': {
        state.stored -= blockBytes;
        if (state.stored < 0) throw malformed('a map of holes longer than its entry', state.entry.path);
        const extents = state.map.push(bytes);
        if (extents !== undefined) this.begin(state.entry, state.stored, extents);
      }
    }
  }

  private meta(kind: 'x' | 'g' | 'L' | 'K', content: Buffer): void {
    if (kind === 'x') this.ahead.pax = paxRecords(content);
    else if (kind === 'L') this.ahead.longName = textField(content, 0, content.length);
    else if (kind === 'K') this.ahead.longTarget = textField(content, 0, content.length);
  }

  private header(block: Buffer): void {
    checkSum(block);
    const flag = String.fromCharCode(block[156] ?? 0);
    const size = numberField(block, 124, 12, 'the size');
    if (size < 0) throw malformed('a negative size');
    if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
      if (size > metaBytes) throw malformed(`an extended header of ${size} bytes; ${metaBytes} are allowed`);
      if (size === 0) this.meta(flag, Buffer.alloc(0));
      else this.state = { is: 'meta', kind: flag, size };
      return;
    }
    if (flag === 'S') {
      const realSize = numberField(block, 483, 12, 'the real size');
      this.oldMap({ header: Buffer.from(block), extents: [], realSize }, block, 4, 386, 482);
      return;
    }
    const records = this.ahead.pax ?? [];
    const sparse = types[flag] === 'file' ? sparseMap(records) : undefined;
    const entry = this.entryOf(block, flag, sparse !== undefined);
    // Links, folders and nodes have no content, whatever their size says.
    const stored = types[flag] === 'file' ? storedSize(new Map(records), size) : 0;
    this.ahead = {};
    if (sparse === 'inData') this.state = { is: 'newMap', entry, map: new SparseText(metaBytes), stored };
    else this.begin(entry, stored, sparse ?? [{ offset: 0, length: stored }]);
  }

  /** One block of GNU's old map: pairs of twelve bytes, and whether there is another block. */
  private oldMap(
    state: { header: Buffer; extents: Extent[]; realSize: number },
    block: Buffer,
    count: number,
    from: number,
    more: number,
  ): void {
    const { header, extents, realSize } = state;
    for (let at = from; at < from + count * 24 && block[at] !== 0; at += 24) {
      const offset = numberField(block, at, 12, 'a place in a sparse file');
      extents.push({ offset, length: numberField(block, at + 12, 12, 'a length in a sparse file') });
    }
    if (extents.length * 24 > metaBytes) throw malformed('a sparse file of too many parts');
    if (block[more] !== 0) {
      this.state = { is: 'oldMap', header, extents, realSize };
      return;
    }
    const entry = this.entryOf(header, 'S', true);
    const stored = storedSize(new Map(this.ahead.pax), numberField(header, 124, 12, 'the size'));
    this.ahead = {};
    this.begin({ ...entry, size: realSize }, stored, extents);
  }

  private entryOf(block: Buffer, flag: string, sparse: boolean): TarEntry {
    const type = types[flag];
    const pax = new Map(this.ahead.pax);
    const value = (key: string): string | undefined => pax.get(key) || undefined; // empty: as in the header
    const name = this.ahead.longName ?? value('path') ?? nameOf(block);
    const path = (sparse ? value('GNU.sparse.name') : undefined) ?? name;
    if (type === undefined) throw malformed(`an entry of the unknown type '${printable(flag)}'`, path);
    const link = type === 'hardlink' || type === 'symlink';
    const id = (key: 'uid' | 'gid', offset: number): number => {
      const text = value(key);
      const number = text === undefined ? numberField(block, offset, 8, `the ${key}`) : decimal(text, `the ${key}`);
      if (number < 0 || number >= 0xffff_ffff) throw malformed(`the ${key} ${number} is out of range`, path);
      return number;
    };
    const mtime = value('mtime');
    const size = storedSize(pax, numberField(block, 124, 12, 'the size'));
    const realSize = sparse ? (value('GNU.sparse.realsize') ?? value('GNU.sparse.size')) : undefined;
    return {
      type: flag === '\0' && path.endsWith('/') ? 'directory' : type,
      path,
      target: link ? (this.ahead.longTarget ?? value('linkpath') ?? textField(block, 157, 100)) : '',
      mode: numberField(block, 100, 8, 'the mode') & 0o7777,
      uid: id('uid', 108),
      gid: id('gid', 116),
      mtime:
        mtime === undefined ? { seconds: numberField(block, 136, 12, 'the time'), nanoseconds: 0 } : paxTime(mtime),
      size: type !== 'file' ? 0 : realSize === undefined ? size : decimal(realSize, 'the real size'),
      sparse,
      xattrs: (this.ahead.pax ?? [])
        .filter(([key]) => key.startsWith(xattrPrefix))
        .map(([key, text]) => [key.slice(xattrPrefix.length), text]),
    };
  }

  private begin(entry: TarEntry, stored: number, extents: readonly Extent[]): void {
    let end = 0;
    let total = 0;
    for (const { offset, length } of extents) {
      const to = offset + length;
      if (offset < end || length < 0 || !(to <= Number.MAX_SAFE_INTEGER))
        throw malformed('its holes overlap', entry.path);
      end = to;
      total += length;
    }
    if (entry.sparse && (end > entry.size || total !== stored)) throw malformed('its holes do not fit', entry.path);
    this.events.entry(entry);
    const padding = padded(stored) - stored;
    this.state = { is: 'data', extents, index: 0, done: 0, left: stored, padding };
    if (stored === 0) this.finishEntry(0);
  }

  /** Gives content on; returns how much of it. */
  private pushData(state: Extract<State, { is: 'data' }>, chunk: Buffer, at: number): number {
    let extent = state.extents[state.index];
    while (extent !== undefined && state.done === extent.length) {
      state.index++;
      state.done = 0;
      extent = state.extents[state.index];
    }
    if (extent === undefined) throw malformed('its holes do not fit');
    const length = Math.min(extent.length - state.done, chunk.length - at);
    this.events.data(chunk.subarray(at, at + length), extent.offset + state.done);
    state.done += length;
    state.left -= length;
    if (state.left === 0) this.finishEntry(state.padding);
    return length;
  }

  private finishEntry(padding: number): void {
    this.state = padding === 0 ? { is: 'header' } : { is: 'padding', left: padding };
    this.events.entryEnd();
  }
}

const xattrPrefix = 'SCHILY.xattr.';

function storedSize(pax: ReadonlyMap<string, string>, size: number): number {
  const own = pax.get('size');
  return own === undefined || own === '' ? size : decimal(own, 'the size');
}

const padded = (size: number): number => Math.ceil(size / blockBytes) * blockBytes;
