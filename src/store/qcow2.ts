import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

/** The parts of a qcow2 header that decide which other files a disk makes QEMU open. */
export interface Qcow2Header {
  readonly version: number;
  readonly virtualBytes: number;
  readonly backingFile?: string;
  /** From the header extension; absent: not recorded. */
  readonly backingFormat?: string;
  readonly externalDataFile: boolean;
}

const magic = 0x514649fb; // "QFI\xfb"
const externalDataFileBit = 1n << 2n; // incompatible_features
const extensionEnd = 0x00000000;
const extensionBackingFormat = 0xe2792aca;
const extensionDataFile = 0x44415441;
/** All of a header lies in the first cluster, and QEMU's own tools use 64 KiB clusters or larger. */
const headerBytes = 64 << 10;

/** Reads the start of an image, never following a link at its name. @throws the open(2) error, or Error: not a plain file. */
export function readHead(file: string): Buffer {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    if (!fstatSync(fd).isFile()) throw new Error(`${file} is not a plain file`);
    const buffer = Buffer.alloc(headerBytes);
    return buffer.subarray(0, readSync(fd, buffer, 0, headerBytes, 0));
  } finally {
    closeSync(fd);
  }
}

/**
 * Parses a qcow2 header (QEMU's docs/interop/qcow2.txt, sections "Header" and "Header extensions") with nobody's help:
 * it has to be known before any QEMU tool opens the image, because opening is what reads a backing file.
 * @returns undefined when this is no qcow2 image. @throws Error when it is a damaged one.
 */
export function parseQcow2Header(head: Buffer): Qcow2Header | undefined {
  if (head.length < 4 || head.readUInt32BE(0) !== magic) return undefined;
  if (head.length < 72) throw new Error('the qcow2 header is cut short');
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw new Error(`qcow2 version ${version} is not known`);
  const backingOffset = Number(head.readBigUInt64BE(8));
  const backingSize = head.readUInt32BE(16);
  const virtualBytes = Number(head.readBigUInt64BE(24));
  if (version === 3 && head.length < 104) throw new Error('the qcow2 header is cut short');
  const incompatible = version === 3 ? head.readBigUInt64BE(72) : 0n;
  const extensions = readExtensions(head, version === 3 ? head.readUInt32BE(100) : 72);
  const backingFormat = extensions.get(extensionBackingFormat)?.toString('utf8');
  return {
    version,
    virtualBytes,
    ...(backingOffset === 0 ? {} : { backingFile: slice(head, backingOffset, backingSize).toString('utf8') }),
    ...(backingFormat === undefined ? {} : { backingFormat }),
    externalDataFile: (incompatible & externalDataFileBit) !== 0n || extensions.has(extensionDataFile),
  };
}

function readExtensions(head: Buffer, start: number): Map<number, Buffer> {
  const extensions = new Map<number, Buffer>();
  for (let offset = start; offset + 8 <= head.length; ) {
    const type = head.readUInt32BE(offset);
    const length = head.readUInt32BE(offset + 4);
    if (type === extensionEnd) break;
    extensions.set(type, slice(head, offset + 8, length));
    offset += 8 + Math.ceil(length / 8) * 8;
  }
  return extensions;
}

function slice(head: Buffer, offset: number, length: number): Buffer {
  if (offset + length > head.length) throw new Error('the qcow2 header points outside of itself');
  return head.subarray(offset, offset + length);
}
