import { TsvError } from '../../model/errors.ts';
import type { Descriptor } from '../../model/image.ts';
import { download } from '../download/download.ts';
import type { DownloadOptions } from '../download/options.ts';
import type { RemoteFile } from '../download/remote.ts';
import { hasBlob, sizeOf, streamBlob } from './blob.ts';
import { type BlobLock, lockBlob } from './blob-lock.ts';
import { requireRoom, storeFailure, wrongContent } from './failures.ts';
import type { ContentLayout } from './layout.ts';
import { PartialFile, type Tap } from './partial.ts';

export interface IngestOptions {
  readonly signal: AbortSignal;
  /** Bytes; called often. */
  readonly progress: (done: number, total: number) => void;
  readonly tap?: Tap;
  readonly download?: Partial<DownloadOptions>;
}

/** See ContentStore.ingest. */
export async function ingest(
  layout: ContentLayout,
  descriptor: Descriptor,
  from: RemoteFile,
  options: IngestOptions,
): Promise<void> {
  const path = layout.blob(descriptor.digest);
  if (await reuse(path, descriptor, options)) return;
  const lock = await takeLock(layout, descriptor, options);
  try {
    // Whoever had the lock has got it meanwhile, or has left what it got.
    if (!(await reuse(path, descriptor, options))) await fetch(layout, descriptor, from, options);
  } finally {
    lock.release();
  }
}

/** Whether the store has it: its bytes are read, hashed and given to the tap. A damaged one is removed. */
async function reuse(path: string, descriptor: Descriptor, { signal, progress, tap }: IngestOptions): Promise<boolean> {
  if (!hasBlob(path, descriptor)) return false;
  let done = 0;
  try {
    for await (const chunk of streamBlob(path, descriptor)) {
      if (signal.aborted) throw new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });
      done += chunk.length;
      progress(done, descriptor.size);
      await tap?.write(chunk);
    }
    return true;
  } catch (error) {
    const isGone = error instanceof TsvError && !hasBlob(path, descriptor);
    if (!isGone) throw error; // the tap's own errors are no reason to download
    if (done > 0) await tap?.restart();
    return false;
  }
}

async function takeLock(
  layout: ContentLayout,
  { digest, size }: Descriptor,
  { signal, progress }: IngestOptions,
): Promise<BlobLock> {
  const { lock, bytes } = layout.partialPaths(digest);
  try {
    return await lockBlob(lock, signal, () => progress(Math.min(sizeOf(bytes), size), size));
  } catch (cause) {
    throw storeFailure('a download could not be locked', layout.partial, cause);
  }
}

async function fetch(
  layout: ContentLayout,
  descriptor: Descriptor,
  from: RemoteFile,
  options: IngestOptions,
): Promise<void> {
  const { signal, tap } = options;
  const { digest, size } = descriptor;
  const paths = layout.partialPaths(digest);
  requireRoom(layout.folder, size - sizeOf(paths.bytes), from.name);
  const progress = (bytes: number) => options.progress(bytes, size);
  const partial = await PartialFile.open({ paths, descriptor, tap, progress });
  try {
    for (let first = true; ; first = false) {
      const { bytes: offset, validator } = partial;
      const { oneAnswer } = await download({
        from,
        size,
        offset,
        validator,
        sink: partial,
        signal,
        options: first ? options.download : { ...options.download, parallelFromBytes: Number.POSITIVE_INFINITY },
      });
      const mistake = partial.mistake();
      if (mistake === undefined) break;
      // Put together from several answers or days: one of them may be to blame. All in one piece is believed.
      if (!first || (offset === 0 && oneAnswer)) throw wrongContent(from.name, descriptor, mistake);
      await partial.restart();
    }
    await partial.publish(layout.blob(digest));
  } catch (error) {
    await partial.abandon(!(error instanceof TsvError && error.code === 'TSV_DIGEST'));
    throw error;
  }
}
