import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Descriptor } from '../../src/model/image.ts';
import { ContentStore, type Tap } from '../../src/store/content/store.ts';
import { HttpClient } from '../../src/store/download/http.ts';
import type { DownloadOptions } from '../../src/store/download/options.ts';

/** A folder that goes with the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tsv-content-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** An empty content store of the test's own, and what lies in it. */
export function emptyStore(): { store: ContentStore; folder: string; files: () => string[] } {
  const folder = join(temporaryFolder(), 'images');
  return { store: ContentStore.open(folder), folder, files: () => filesOf(folder) };
}

/** Paths of blobs and of what is in `partial/`, below a content store. */
export const filesOf = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter((path) => path.includes('/'))
    .sort();

/** An HTTP client that ends with the test. */
export function httpClient(env: NodeJS.ProcessEnv = {}): HttpClient {
  const client = new HttpClient({ env });
  onTestFinished(() => client.close());
  return client;
}

export const descriptorOf = (bytes: Uint8Array, algorithm: 'sha256' | 'sha512' = 'sha256'): Descriptor => ({
  mediaType: 'application/octet-stream',
  digest: `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`,
  size: bytes.length,
});

/** What a tap was given, as of its last restart. */
export class RecordingTap implements Tap {
  restarts = 0;
  private chunks: Buffer[] = [];

  write(bytes: Uint8Array): void {
    this.chunks.push(Buffer.from(bytes));
  }

  restart(): void {
    this.restarts += 1;
    this.chunks = [];
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

/** No pauses between attempts. */
export const impatient: Partial<DownloadOptions> = { backoffMs: 0, attempts: 4, progressBytes: 64 * 1024 };

export const never = new AbortController().signal;
