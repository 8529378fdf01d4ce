import { open } from 'node:fs/promises';
import type { Descriptor, Digest } from '../../model/image.ts';
import type { ContentStore } from '../content/store.ts';
import { readChunks } from '../download/local.ts';
import { progressTeller } from '../download/progress.ts';
import type { Reference } from '../registry/reference.ts';
import { type RegistryUse, withRegistry } from './late-registry.ts';
import type { ImageDocuments } from './read.ts';

/** Uploads at once. */
const uploads = 4;

/**
 * Puts an image of the store into a repository: the blobs that it does not have, then the manifest under the tag. To be
 * called in `withStore(…, 'shared')`.
 * @throws TSV_REGISTRY, TSV_REGISTRY_LOGIN, TSV_STORE, TSV_CANCELLED
 */
export async function pushImage(
  content: ContentStore,
  { bytes, descriptor, manifest }: ImageDocuments,
  target: Reference,
  options: RegistryUse & {
    /** A repository of the target's registry that the image is known to be from. */
    readonly mountFrom?: string;
    progress(text: string): void;
  },
): Promise<{ readonly digest: Digest; readonly uploadedBytes: number }> {
  return withRegistry(options, async (late) => {
    const registry = await late.open();
    const blobs = [...new Map([manifest.config, ...manifest.layers].map((blob) => [blob.digest, blob])).values()];
    const total = blobs.reduce((sum, { size }) => sum + size, 0);
    const done = new Map<Digest, number>();
    let uploadedBytes = 0;
    const tell = progressTeller();
    const say = () => {
      const bytesDone = [...done.values()].reduce((sum, size) => sum + size, 0);
      options.progress(tell(bytesDone, total));
    };
    const abort = new AbortController();
    const signal = AbortSignal.any([options.signal, abort.signal]);
    const waiting = [...blobs];
    let failure: { readonly error: unknown } | undefined;
    const worker = async (): Promise<void> => {
      for (let blob = waiting.shift(); blob !== undefined && failure === undefined; blob = waiting.shift()) {
        const { digest, size } = blob;
        try {
          const outcome = await registry.uploadBlob(target, blob, {
            signal,
            // The whole is hashed on the way: what has changed on the disk does not get to its end.
            open: ({ start, end }) =>
              start === 0 && end === size ? content.stream(blob) : bytesOf(content, digest, start, end),
            ...(options.mountFrom === undefined ? {} : { mountFrom: options.mountFrom }),
            progress: (sent) => {
              done.set(digest, sent);
              say();
            },
          });
          if (outcome === 'uploaded') uploadedBytes += size;
          done.set(digest, size);
          say();
        } catch (error) {
          failure ??= { error };
          abort.abort();
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(uploads, blobs.length) }, worker));
    if (failure !== undefined) throw failure.error;
    const put: Descriptor = await registry.putManifest(target, { mediaType: descriptor.mediaType, bytes });
    return { digest: put.digest, uploadedBytes };
  });
}

/** A part that is sent again, or a piece: the registry compares the digest of all. */
async function* bytesOf(content: ContentStore, digest: Digest, start: number, end: number): AsyncGenerator<Uint8Array> {
  const file = await open(content.path(digest));
  try {
    yield* readChunks(file, start, end);
  } finally {
    await file.close();
  }
}
