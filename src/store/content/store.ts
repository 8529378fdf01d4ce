import {
  closeSync,
  constants,
  fsyncSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import type { Descriptor, Digest } from '../../model/image.ts';
import type { RemoteFile } from '../download/remote.ts';
import { hasBlob, measureBlob, readDocument, sizeOf, streamBlob } from './blob.ts';
import { tryLockBlob } from './blob-lock.ts';
import { digestOf, isDigest } from './digest.ts';
import { storeFailure } from './failures.ts';
import { type IngestOptions, ingest } from './ingest.ts';
import { ContentLayout } from './layout.ts';

export type { IngestOptions } from './ingest.ts';
export type { Tap } from './partial.ts';

export interface StoredBlob {
  readonly digest: Digest;
  readonly bytes: number;
}

export interface PartialDownload {
  /** Of its files below `partial/`, without their endings. */
  readonly name: string;
  readonly bytes: number;
  /** ms since 1970 */
  readonly changedAt: number;
}

/**
 * Blobs by digest in an OCI image layout (image-layout.md). A blob gets its name by rename(2) after its bytes were
 * hashed while they came; whoever uses one gets bytes that were hashed again. Any process may be killed at any time.
 */
export class ContentStore {
  private readonly layout: ContentLayout;

  private constructor(layout: ContentLayout) {
    this.layout = layout;
  }

  /** Makes the layout if it is not there. @throws TSV_STORE */
  static open(folder: string): ContentStore {
    const layout = new ContentLayout(folder);
    try {
      layout.make();
    } catch (cause) {
      throw storeFailure(`the store ${folder} could not be made`, folder, cause);
    }
    return new ContentStore(layout);
  }

  /** For other programs' eyes and for sizes; use {@link read} and {@link stream} for what is in it. */
  path(digest: Digest): string {
    return this.layout.blob(digest);
  }

  /** Whether it is there with the right size; what its bytes are is found out by whoever reads them. */
  has(descriptor: Descriptor): boolean {
    return hasBlob(this.layout.blob(descriptor.digest), descriptor);
  }

  /** A small document, checked for size and digest. @throws TSV_DIGEST (and removes it), TSV_STORE, TSV_IMAGE (over 16 MiB) */
  read(descriptor: Descriptor): Buffer {
    return readDocument(this.layout.blob(descriptor.digest), descriptor);
  }

  /** All bytes of a blob, hashed on the way. @throws after the last one TSV_DIGEST (and removes it); TSV_STORE */
  stream(descriptor: Descriptor): AsyncGenerator<Uint8Array> {
    return streamBlob(this.layout.blob(descriptor.digest), descriptor);
  }

  /** Stores a small document, over one of the same name: what is damaged is mended. @throws TSV_STORE */
  put(bytes: Uint8Array, mediaType: string): Descriptor {
    const digest = digestOf(bytes);
    const temporary = this.layout.temporary();
    try {
      const fd = openSync(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o400);
      try {
        writeFileSync(fd, bytes);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(temporary, this.layout.blob(digest));
    } catch (cause) {
      rmSync(temporary, { force: true });
      throw storeFailure(`the blob ${digest} could not be stored`, this.layout.folder, cause);
    }
    return { mediaType, digest, size: bytes.length };
  }

  /**
   * Gets a blob, unless it is there and right. Of all processes that want it one downloads; the others wait, show its
   * progress, and take over from its last byte should it die. The tap gets all bytes in order from 0 on in any case.
   * That they are right is known when the promise resolves, not before.
   * @throws TSV_DIGEST (nothing is kept); TSV_DOWNLOAD, TSV_STORE, TSV_CANCELLED (what has come is kept for the next
   * time, if the server has ranges); what the tap or `from` throws
   */
  ingest(descriptor: Descriptor, from: RemoteFile, options: IngestOptions): Promise<void> {
    return ingest(this.layout, descriptor, from, options);
  }

  /** Every blob, in no order. @throws TSV_STORE */
  list(): readonly StoredBlob[] {
    return (['sha256', 'sha512'] as const).flatMap((algorithm) =>
      namesIn(join(this.layout.blobs, algorithm)).flatMap((hex) => {
        const digest = `${algorithm}:${hex}`;
        return isDigest(digest) ? [{ digest, bytes: sizeOf(this.layout.blob(digest)) }] : [];
      }),
    );
  }

  /** Hashes every blob; removes none. @throws TSV_STORE, TSV_CANCELLED */
  async *verify(signal: AbortSignal): AsyncGenerator<StoredBlob & { readonly ok: boolean }> {
    for (const { digest } of this.list()) {
      const found = await measureBlob(this.layout.blob(digest), digest, signal);
      if (found !== undefined) yield { digest, bytes: found.bytes, ok: found.digest === digest };
    }
  }

  /** Gone is success. */
  remove(digest: Digest): void {
    rmSync(this.layout.blob(digest), { force: true });
  }

  /** What downloads and writers that were interrupted have left, and what is under way now. @throws TSV_STORE */
  partials(): readonly PartialDownload[] {
    const found = new Map<string, PartialDownload>();
    for (const file of namesIn(this.layout.partial)) {
      const name = file.replace(/\.(json|lock)$/, '');
      const stat = statSync(join(this.layout.partial, file), { throwIfNoEntry: false });
      if (stat === undefined || !partialName.test(name)) continue;
      const before = found.get(name);
      found.set(name, {
        name,
        bytes: stat.size + (before?.bytes ?? 0),
        changedAt: Math.max(stat.mtimeMs, before?.changedAt ?? 0),
      });
    }
    return [...found.values()];
  }

  /**
   * Removes what an interrupted download has left. false: somebody works on it. Gone is success. Small documents
   * (`new-…`) are written without a lock, in a moment: leave those that are not some minutes old.
   */
  removePartial({ name }: PartialDownload): boolean {
    if (!partialName.test(name)) throw new TsvError('TSV_INTERNAL', `${JSON.stringify(name)} is no partial download`);
    const path = join(this.layout.partial, name);
    const lock = tryLockBlob(`${path}.lock`);
    if (lock === undefined) return false;
    rmSync(path, { force: true });
    rmSync(`${path}.json`, { force: true });
    lock.release();
    return true;
  }
}

const partialName = /^(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128}|new-[0-9a-f]{16})$/;

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch (cause) {
    throw storeFailure(`${folder} could not be read`, folder, cause);
  }
}
