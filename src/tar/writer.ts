import { blockBytes } from './fields.ts';
import type { TarType } from './reader.ts';

/** A file of an archive, or a folder, whose name ends with a slash. */
export interface TarMember {
  /** At most 100 bytes, of ASCII. */
  readonly name: string;
  readonly size: number;
  /** Exactly `size` bytes. */
  content(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** A tar archive (POSIX.1-2001 ustar; GNU's base 256 for more than 8 GiB) of files and folders, the same for the same content. */
export async function* tarArchive(members: Iterable<TarMember>): AsyncGenerator<Uint8Array> {
  for (const member of members) {
    const { name, size } = member;
    if (name.length > nameBytes) throw new RangeError(`${name} is too long for an archive`);
    const type = name.endsWith('/') ? 'directory' : 'file';
    yield tarHeader({ path: name, type, mode: type === 'file' ? 0o644 : 0o755, uid: 0, gid: 0, size, seconds: 0 });
    let bytes = 0;
    for await (const chunk of member.content()) {
      bytes += chunk.length;
      yield chunk;
    }
    if (bytes !== size) throw new RangeError(`${name}: ${bytes} bytes, not ${size}`);
    if (bytes % blockBytes !== 0) yield tarPadding(bytes);
  }
  yield tarEnd();
}

/** What a header says. Texts have one character per byte; the paths of folders end with a slash. */
export interface TarHeader {
  readonly path: string;
  readonly type: TarType;
  /** Of links. */
  readonly target?: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of the content that follows. */
  readonly size: number;
  /** Since 1970. */
  readonly seconds: number;
}

const flags: Readonly<Record<TarType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};

const nameBytes = 100;

/**
 * The header of an entry: POSIX ustar, and what GNU tar and all others read where that has no room: long names in entries
 * of their own before it (L, K), numbers in base 256.
 */
export function tarHeader(entry: TarHeader): Buffer {
  const { path, target = '' } = entry;
  return Buffer.concat([
    ...(target.length > nameBytes ? [longText('K', target)] : []),
    ...(path.length > nameBytes ? [longText('L', path)] : []),
    headerBlock(entry, flags[entry.type]),
  ]);
}

/** Records of an extended header that is about the next entry (pax(1)): `LENGTH KEY=VALUE\n`. */
export function paxHeader(records: readonly (readonly [key: string, value: string])[]): Buffer {
  const text = records.map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    let length = rest.length;
    while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
    return `${length}${rest}`;
  });
  return specialEntry('x', 'PaxHeaders', text.join(''));
}

/** Fills content up to a block. */
export const tarPadding = (size: number): Buffer => Buffer.alloc((blockBytes - (size % blockBytes)) % blockBytes);

/** Two blocks of zeros. */
export const tarEnd = (): Buffer => Buffer.alloc(2 * blockBytes);

/** GNU tar manual, "The GNU tar format": the text with a NUL behind it. */
const longText = (flag: 'K' | 'L', text: string): Buffer => specialEntry(flag, '././@LongLink', `${text}\0`);

function specialEntry(flag: string, path: string, text: string): Buffer {
  const content = Buffer.from(text, 'latin1');
  const header = { path, mode: 0o644, uid: 0, gid: 0, size: content.length, seconds: 0 };
  return Buffer.concat([headerBlock(header, flag), content, tarPadding(content.length)]);
}

function headerBlock(header: Omit<TarHeader, 'type'>, flag: string): Buffer {
  const block = Buffer.alloc(blockBytes);
  block.write(header.path.slice(0, nameBytes), 0, 'latin1');
  number(block, 100, 8, header.mode);
  number(block, 108, 8, header.uid);
  number(block, 116, 8, header.gid);
  number(block, 124, 12, header.size);
  number(block, 136, 12, header.seconds);
  block.write('        ', 148, 'latin1');
  block.write(flag, 156, 'latin1');
  block.write((header.target ?? '').slice(0, nameBytes), 157, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  let sum = 0;
  for (let at = 0; at < blockBytes; at++) sum += block[at] ?? 0;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** Octal digits and a NUL; what does not fit, or is negative, in base 256 with the first bit set. */
function number(block: Buffer, offset: number, length: number, value: number): void {
  if (value >= 0 && value < 8 ** (length - 1)) {
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, offset, 'latin1');
    return;
  }
  let rest = BigInt(value);
  for (let at = offset + length - 1; at >= offset; at--) {
    block.writeUInt8(Number(rest & 0xffn), at);
    rest >>= 8n;
  }
  block.writeUInt8((block[offset] ?? 0) | 0x80, offset);
}
