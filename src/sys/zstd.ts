import { TsvError } from '../model/errors.ts';
import { allocate, loadLibrary } from './libc.ts';

/*
 * libzstd (zstd.h, Streaming decompression). Node has zstd only since 22.15; dpkg needs this library, so each Debian has
 * it. Structures: ZSTD_inBuffer and ZSTD_outBuffer are { void *; size_t size; size_t pos }.
 */
const declarations = {
  ZSTD_createDStream: 'uintptr_t ZSTD_createDStream()',
  ZSTD_freeDStream: 'size_t ZSTD_freeDStream(uintptr_t stream)',
  ZSTD_decompressStream: 'size_t ZSTD_decompressStream(uintptr_t stream, uintptr_t output, uintptr_t input)',
  ZSTD_isError: 'unsigned int ZSTD_isError(size_t code)',
  ZSTD_getErrorName: 'const char *ZSTD_getErrorName(size_t code)',
};

const inputBytes = 1 << 17;
const outputBytes = 1 << 18;

export interface ZstdDecoder {
  /** Gives `output` what comes out, in pieces that are the decoder's again afterwards. @throws Error */
  write(chunk: Uint8Array, output: (bytes: Buffer) => void): void;
  /** Whether a frame is complete and nothing follows it. */
  readonly atEnd: boolean;
  free(): void;
}

/** Decompresses one or more frames on the calling thread; a frame's window may be 128 MiB. @throws TSV_HOST_MISSING */
export function zstdDecoder(): ZstdDecoder {
  const library = load();
  const stream = library.ZSTD_createDStream();
  const memory = allocate(64 + inputBytes + outputBytes);
  const { address, bytes } = memory;
  const [input, output, from, to] = [0n, 24n, 64n, BigInt(64 + inputBytes)].map((offset) => address + offset) as [
    bigint,
    bigint,
    bigint,
    bigint,
  ];
  const number = (offset: number): number => Number(bytes.readBigUInt64LE(offset));
  let atEnd = false;
  const step = (): void => {
    bytes.writeBigUInt64LE(to, 24);
    bytes.writeBigUInt64LE(BigInt(outputBytes), 32);
    bytes.writeBigUInt64LE(0n, 40);
    // Safety: both structures and both buffers lie in `memory`, which lives until free().
    const result = library.ZSTD_decompressStream(stream, output, input);
    if (Number(library.ZSTD_isError(result)) !== 0) throw new Error(String(library.ZSTD_getErrorName(result)));
    atEnd = Number(result) === 0;
  };
  return {
    write(chunk, give) {
      for (let at = 0; at < chunk.length; at += inputBytes) {
        const piece = chunk.subarray(at, at + inputBytes);
        bytes.set(piece, 64);
        bytes.writeBigUInt64LE(from, 0);
        bytes.writeBigUInt64LE(BigInt(piece.length), 8);
        bytes.writeBigUInt64LE(0n, 16);
        do {
          step();
          const length = number(40);
          if (length > 0) give(bytes.subarray(64 + inputBytes, 64 + inputBytes + length));
          // A full output may not be all of it.
        } while (number(16) < piece.length || (number(40) === outputBytes && !atEnd));
      }
    },
    get atEnd() {
      return atEnd;
    },
    free() {
      library.ZSTD_freeDStream(stream);
      memory.free();
    },
  };
}

let loaded: ReturnType<typeof loadLibrary<keyof typeof declarations>> | undefined;

function load() {
  try {
    loaded ??= loadLibrary('libzstd.so.1', declarations);
    return loaded;
  } catch (error) {
    throw new TsvError('TSV_HOST_MISSING', 'the library libzstd.so.1 is not installed', {
      details: ['a layer of the image is compressed with zstd'],
      hint: 'sudo apt-get install -y --no-install-recommends libzstd1',
      cause: error,
    });
  }
}
