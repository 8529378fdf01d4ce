import { createGunzip, type Gunzip } from 'node:zlib';
import { TsvError } from '../../model/errors.ts';
import { zstdDecoder } from '../../sys/zstd.ts';

/** Decompresses what is written and gives it to a consumer in order. The first error is that of all later calls. */
export interface Decoder {
  /** Resolves when more may come. */
  write(chunk: Buffer): Promise<void>;
  /** All was written: resolves when all was consumed. @throws TSV_IMAGE when the stream is cut off */
  end(): Promise<void>;
  /** Nothing is consumed any more. */
  close(): void;
}

/** @param consume is synchronous; its bytes are the decoder's again afterwards */
export function decoder(compression: 'none' | 'gzip' | 'zstd', consume: (bytes: Buffer) => void): Decoder {
  if (compression === 'gzip') return new GzipDecoder(consume);
  if (compression === 'zstd') return zstd(consume);
  return { write: async (chunk) => consume(chunk), end: async () => {}, close: () => {} };
}

const corrupt = (kind: string, cause: unknown): TsvError =>
  new TsvError('TSV_IMAGE', `a layer of the image is no valid ${kind} stream`, {
    details: [cause instanceof Error ? cause.message : String(cause)],
    cause,
  });

/** Large pieces: each costs a change of threads. */
const pieceBytes = 1 << 19;

/** zlib works in a thread of its own while this one writes what it gave before. Members may follow one another. */
class GzipDecoder implements Decoder {
  private readonly gunzip: Gunzip = createGunzip({ chunkSize: pieceBytes });
  private readonly consumed: Promise<void>;

  constructor(consume: (bytes: Buffer) => void) {
    this.consumed = this.consumeAll(consume);
    this.consumed.catch(() => {}); // it is told to whoever writes
  }

  private async consumeAll(consume: (bytes: Buffer) => void): Promise<void> {
    try {
      for await (const piece of this.gunzip) consume(piece as Buffer);
    } catch (error) {
      this.gunzip.destroy();
      if (error instanceof TsvError) throw error;
      const code = (error as NodeJS.ErrnoException).code ?? '';
      throw /^Z_/.test(code) ? corrupt('gzip', error) : error;
    }
  }

  async write(chunk: Buffer): Promise<void> {
    if (this.gunzip.destroyed || this.gunzip.readableEnded) return this.consumed;
    if (this.gunzip.write(chunk)) return;
    const drained = new Promise<void>((resolve) => this.gunzip.once('drain', resolve));
    await Promise.race([drained, this.consumed]);
  }

  async end(): Promise<void> {
    if (!this.gunzip.destroyed) this.gunzip.end();
    await this.consumed;
  }

  close(): void {
    this.gunzip.destroy();
  }
}

function zstd(consume: (bytes: Buffer) => void): Decoder {
  const stream = zstdDecoder();
  let open = true;
  return {
    async write(chunk) {
      try {
        stream.write(chunk, consume);
      } catch (error) {
        throw error instanceof TsvError ? error : corrupt('zstd', error);
      }
    },
    async end() {
      if (!stream.atEnd) throw corrupt('zstd', new Error('unexpected end of file'));
    },
    close() {
      if (open) stream.free();
      open = false;
    },
  };
}
