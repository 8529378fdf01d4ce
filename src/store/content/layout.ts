import { randomBytes } from 'node:crypto';
import { chmodSync, linkSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '../../model/image.ts';
import { digestParts } from './digest.ts';
import type { PartialPaths } from './partial.ts';

/** image-spec, image-layout.md: what makes the folder one that other tools can read. */
const markers: Readonly<Record<string, unknown>> = {
  'oci-layout': { imageLayoutVersion: '1.0.0' },
  'index.json': { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [] },
};

/** Names below the folder of a content store. */
export class ContentLayout {
  readonly folder: string;
  readonly partial: string;
  readonly blobs: string;

  constructor(folder: string) {
    this.folder = folder;
    this.partial = join(folder, 'partial');
    this.blobs = join(folder, 'blobs');
  }

  /** Makes what is not there. Closed to others: what is unpacked here has setuid programs (CVE-2016-1582). */
  make(): void {
    mkdirSync(this.partial, { recursive: true, mode: 0o700 });
    for (const algorithm of ['sha256', 'sha512'])
      mkdirSync(join(this.blobs, algorithm), { recursive: true, mode: 0o700 });
    const { uid, mode } = statSync(this.folder);
    if (uid === process.getuid?.() && (mode & 0o077) !== 0) chmodSync(this.folder, 0o700);
    for (const [name, content] of Object.entries(markers)) this.makeMarker(name, `${JSON.stringify(content)}\n`);
  }

  blob(digest: Digest): string {
    const { algorithm, hex } = digestParts(digest);
    return join(this.blobs, algorithm, hex);
  }

  partialPaths(digest: Digest): PartialPaths & { readonly lock: string } {
    const { algorithm, hex } = digestParts(digest);
    const bytes = join(this.partial, `${algorithm}-${hex}`);
    return { bytes, origin: `${bytes}.json`, lock: `${bytes}.lock` };
  }

  /** A name for a file that is written and then renamed. */
  temporary(): string {
    return join(this.partial, `new-${randomBytes(8).toString('hex')}`);
  }

  /** Whole or not at all, and never over one that another process has just made. */
  private makeMarker(name: string, content: string): void {
    const path = join(this.folder, name);
    if (statSync(path, { throwIfNoEntry: false }) !== undefined) return;
    const temporary = this.temporary();
    writeFileSync(temporary, content, { mode: 0o600, flag: 'wx' });
    try {
      linkSync(temporary, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      rmSync(temporary, { force: true });
    }
  }
}
