const blockBytes = 512;

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
    yield tarHeader(member);
    let bytes = 0;
    for await (const chunk of member.content()) {
      bytes += chunk.length;
      yield chunk;
    }
    if (bytes !== member.size) throw new RangeError(`${member.name}: ${bytes} bytes, not ${member.size}`);
    const over = bytes % blockBytes;
    if (over !== 0) yield Buffer.alloc(blockBytes - over);
  }
  yield Buffer.alloc(2 * blockBytes);
}

function tarHeader({ name, size }: Pick<TarMember, 'name' | 'size'>): Buffer {
  if (name.length > 100) throw new RangeError(`${name} is too long for an archive`);
  const block = Buffer.alloc(blockBytes);
  block.write(name, 0, 'latin1');
  const isFolder = name.endsWith('/');
  block.write(isFolder ? '0000755\0' : '0000644\0', 100, 'latin1');
  block.write('0000000\0', 108, 'latin1');
  block.write('0000000\0', 116, 'latin1');
  if (size < 8 ** 11) block.write(`${size.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  else {
    block.writeUInt8(0x80, 124);
    block.writeBigUInt64BE(BigInt(size), 128);
  }
  block.write('00000000000\0', 136, 'latin1');
  block.write('        ', 148, 'latin1');
  block.write(isFolder ? '5' : '0', 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}
