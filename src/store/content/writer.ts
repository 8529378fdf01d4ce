import type { FileHandle } from 'node:fs/promises';

/** One system call for about this much: few calls, and not much in memory. */
const batchBytes = 1024 * 1024;

/**
 * Writes one after the other at the end of a file, in large pieces and behind the caller's back: while one batch is
 * written the next one comes together. Nothing is copied: bytes that were given are not to be changed afterwards.
 */
export class Writer {
  private readonly handle: FileHandle;
  /** Of the file, where the next batch goes. */
  private position: number;
  private pending: Uint8Array[] = [];
  private pendingBytes = 0;
  private inFlight: Promise<void> | undefined;
  private failure: { readonly error: unknown } | undefined;

  constructor(handle: FileHandle, position: number) {
    this.handle = handle;
    this.position = position;
  }

  /** A promise when the disk is behind. @throws what an earlier batch failed with */
  write(bytes: Uint8Array): Promise<void> | undefined {
    if (this.failure !== undefined) throw this.failure.error;
    this.pending.push(bytes);
    this.pendingBytes += bytes.length;
    if (this.pendingBytes < batchBytes) return undefined;
    if (this.inFlight !== undefined) return this.inFlight.then(() => this.begin());
    this.begin();
    return undefined;
  }

  /** Until all is written. @throws what a batch failed with */
  async flush(): Promise<void> {
    await this.inFlight;
    this.begin();
    await this.inFlight;
    if (this.failure !== undefined) throw this.failure.error;
  }

  private begin(): void {
    if (this.failure !== undefined || this.pending.length === 0) return;
    const batch = this.pending;
    this.pending = [];
    this.pendingBytes = 0;
    this.inFlight = this.writeAll(batch).then(
      () => {
        this.inFlight = undefined;
      },
      (error: unknown) => {
        this.failure = { error };
        this.inFlight = undefined;
      },
    );
  }

  private async writeAll(batch: readonly Uint8Array[]): Promise<void> {
    let left = batch;
    while (left.length > 0) {
      const { bytesWritten } = await this.handle.writev(left, this.position);
      this.position += bytesWritten;
      left = without(left, bytesWritten);
    }
  }
}

/** writev(2) may write less than it was given, and says ENOSPC only the next time. */
function without(chunks: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let skip = bytes;
  return chunks.flatMap((chunk) => {
    const gone = Math.min(skip, chunk.length);
    skip -= gone;
    return gone === chunk.length ? [] : [chunk.subarray(gone)];
  });
}
