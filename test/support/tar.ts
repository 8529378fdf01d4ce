/*
 * Tar archives by hand, for those that no program would make: every field may be wrong. POSIX, ustar.
 */

export interface RawEntry {
  readonly path?: string | Buffer;
  /** `0` file, `1` hard link, `2` symbolic link, `3` char, `4` block, `5` folder, `6` fifo, `x` PAX header, … */
  readonly type?: string;
  readonly target?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly content?: string | Buffer;
  /** Instead of the content's length, as the field is to be. */
  readonly size?: Buffer;
  /** Records of an extended header before it. */
  readonly pax?: Readonly<Record<string, string | Buffer>>;
  /** Instead of the right one. */
  readonly checksum?: string;
}

const blockBytes = 512;
const octal = (value: number, length: number): string => `${value.toString(8).padStart(length - 1, '0')}\0`;

/** One entry with what stands before it. */
export function rawEntry(entry: RawEntry): Buffer {
  const content = Buffer.from(entry.content ?? '');
  const header = Buffer.alloc(blockBytes);
  Buffer.from(entry.path ?? 'file').copy(header, 0, 0, 100);
  header.write(octal(entry.mode ?? 0o644, 8), 100);
  header.write(octal(entry.uid ?? 0, 8), 108);
  header.write(octal(entry.gid ?? 0, 8), 116);
  if (entry.size === undefined) header.write(octal(content.length, 12), 124);
  else entry.size.copy(header, 124, 0, 12);
  header.write(octal(entry.mtime ?? 1_700_000_000, 12), 136);
  header.write('        ', 148);
  header.write(entry.type ?? '0', 156, 'latin1');
  Buffer.from(entry.target ?? '').copy(header, 157, 0, 100);
  header.write('ustar\x0000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(entry.checksum ?? `${sum.toString(8).padStart(6, '0')}\0 `, 148);
  const padding = Buffer.alloc((blockBytes - (content.length % blockBytes)) % blockBytes);
  const before = entry.pax === undefined ? [] : [rawEntry({ path: 'pax', type: 'x', content: paxContent(entry.pax) })];
  return Buffer.concat([...before, header, content, padding]);
}

export function paxContent(records: Readonly<Record<string, string | Buffer>>): Buffer {
  return Buffer.concat(
    Object.entries(records).map(([key, value]) => {
      const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')]);
      let length = rest.length;
      while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
      return Buffer.concat([Buffer.from(String(length)), rest]);
    }),
  );
}

/** Two blocks of zeros. */
export const archiveEnd = Buffer.alloc(2 * blockBytes);

export const rawTar = (...entries: readonly RawEntry[]): Buffer =>
  Buffer.concat([...entries.map(rawEntry), archiveEnd]);
