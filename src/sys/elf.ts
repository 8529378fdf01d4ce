const pageBytes = 4096;
const codeAddress = 0x400000n;

/** Where {@link elfExecutable} places `data`. */
export const dataAddress = 0x10000000n;

const readExecute = 5;
const readWrite = 6;

/**
 * A static executable for x86-64 (elf(5)): one segment with the code, which begins to run at its first byte and cannot
 * be written, and one with the data, which cannot be executed.
 */
export function elfExecutable(code: Uint8Array, data: Uint8Array = new Uint8Array(0)): Buffer {
  const segments = data.length === 0 ? 1 : 2;
  const headers = Buffer.alloc(64 + 56 * segments);
  headers.write('\x7fELF', 0, 'latin1');
  headers.set([2, 1, 1, 0], 4); // 64-bit, little endian, version 1, System V
  headers.writeUInt16LE(2, 16); // ET_EXEC
  headers.writeUInt16LE(62, 18); // EM_X86_64
  headers.writeUInt32LE(1, 20);
  headers.writeBigUInt64LE(codeAddress + BigInt(headers.length), 24); // entry
  headers.writeBigUInt64LE(64n, 32); // program headers follow
  headers.writeUInt16LE(64, 52);
  headers.writeUInt16LE(56, 54);
  headers.writeUInt16LE(segments, 56);
  const text = Buffer.concat([headers, code]);
  const dataOffset = Math.ceil(text.length / pageBytes) * pageBytes;
  writeSegment(headers, 64, { offset: 0, address: codeAddress, size: text.length, flags: readExecute });
  if (segments === 2) {
    writeSegment(headers, 120, { offset: dataOffset, address: dataAddress, size: data.length, flags: readWrite });
  }
  text.set(headers);
  return data.length === 0 ? text : Buffer.concat([text, Buffer.alloc(dataOffset - text.length), data]);
}

/** One entry of the program header table: PT_LOAD. */
function writeSegment(
  headers: Buffer,
  at: number,
  segment: { offset: number; address: bigint; size: number; flags: number },
): void {
  headers.writeUInt32LE(1, at);
  headers.writeUInt32LE(segment.flags, at + 4);
  headers.writeBigUInt64LE(BigInt(segment.offset), at + 8);
  headers.writeBigUInt64LE(segment.address, at + 16);
  headers.writeBigUInt64LE(segment.address, at + 24);
  headers.writeBigUInt64LE(BigInt(segment.size), at + 32);
  headers.writeBigUInt64LE(BigInt(segment.size), at + 40);
  headers.writeBigUInt64LE(BigInt(pageBytes), at + 48);
}
