import { constants, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Descriptor } from '../../model/image.ts';
import type { DownloadSink } from '../download/download.ts';
import { readChunks } from '../download/local.ts';
import { type Hasher, hasher } from './digest.ts';
import { storeFailure } from './failures.ts';
import { Writer } from './writer.ts';

/**
 * Small documents are what an image cannot start without, and cost one fsync(2). A large blob has been unpacked by the
 * time it is missed, and every use of it hashes it: what a crash of the host takes away is fetched again.
 */
const syncUpToBytes = 1024 * 1024;

/** What the bytes of a blob are given to while they arrive. */
export interface Tap {
  /** The next bytes, in order, from the first one on. Not to be changed: they are on their way to the disk as well. */
  write(bytes: Uint8Array): Promise<void> | void;
  /**
   * What was written so far is void and comes again from the first byte: the file has changed at its source, or what an
   * earlier download or a damaged disk had left was wrong. Rare.
   */
  restart(): Promise<void> | void;
}

export interface PartialPaths {
  /** The bytes so far. */
  readonly bytes: string;
  /** JSON of {@link Origin}. */
  readonly origin: string;
}

/** What a download goes on with. */
interface Origin {
  readonly validator?: string;
  readonly ranges: boolean;
}

export interface PartialOptions {
  readonly paths: PartialPaths;
  readonly descriptor: Descriptor;
  readonly tap: Tap | undefined;
  readonly progress: (bytes: number) => void;
}

/** A blob that is on its way: bytes go to the hash, the tap and the file as they come. Its lock is held by the caller. */
export class PartialFile implements DownloadSink {
  private readonly options: PartialOptions;
  private readonly handle: FileHandle;
  private origin: Origin | undefined;
  private hash: Hasher;
  private writer: Writer;
  private length = 0;

  private constructor(options: PartialOptions, handle: FileHandle, origin: Origin | undefined) {
    this.options = options;
    this.handle = handle;
    this.origin = origin;
    this.hash = hasher(options.descriptor.digest);
    this.writer = new Writer(handle, 0);
  }

  /** Opens what an earlier download left, and gives its bytes to the tap; or begins. @throws TSV_STORE */
  static async open(options: PartialOptions): Promise<PartialFile> {
    const { paths, descriptor } = options;
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
    const handle = await open(paths.bytes, flags, 0o600).catch((cause: unknown) => {
      throw storeFailure(`the blob ${descriptor.digest} could not be stored`, dirname(paths.bytes), cause);
    });
    try {
      const partial = new PartialFile(options, handle, readOrigin(paths.origin));
      await partial.readBack();
      return partial;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** So far. */
  get bytes(): number {
    return this.length;
  }

  get validator(): string | undefined {
    return this.origin?.validator;
  }

  write(bytes: Uint8Array): Promise<void> | void {
    let disk: Promise<void> | undefined;
    try {
      disk = this.writer.write(bytes);
    } catch (cause) {
      throw this.failure(cause);
    }
    const tapped = this.take(bytes);
    if (disk === undefined) return tapped;
    return tapped === undefined ? disk : Promise.all([disk, tapped]).then(() => {});
  }

  answered({ validator, ranges }: { readonly validator: string | undefined; readonly ranges: boolean }): void {
    if (this.origin !== undefined && this.origin.validator === validator && this.origin.ranges === ranges) return;
    this.origin = { ...(validator === undefined ? {} : { validator }), ranges };
    try {
      writeFileSync(this.options.paths.origin, `${JSON.stringify(this.origin)}\n`, { mode: 0o600 });
    } catch (cause) {
      throw this.failure(cause);
    }
  }

  async restart(): Promise<void> {
    try {
      await this.writer.flush();
      await this.handle.truncate(0);
      rmSync(this.options.paths.origin, { force: true });
    } catch (cause) {
      throw this.failure(cause);
    }
    const had = this.length > 0;
    this.origin = undefined;
    this.hash = hasher(this.options.descriptor.digest);
    this.writer = new Writer(this.handle, 0);
    this.length = 0;
    if (had) await this.options.tap?.restart();
  }

  /** To be asked once (and once after each restart), when all bytes are there. undefined: they are right. */
  mistake(): string | undefined {
    const { digest, size } = this.options.descriptor;
    const got = this.hash.digest();
    return got === digest && this.length === size ? undefined : `${got}, ${this.length} bytes`;
  }

  /** Gives it its final name. @throws TSV_STORE; then it is still to be abandoned */
  async publish(path: string): Promise<void> {
    try {
      await this.writer.flush();
      if (this.length <= syncUpToBytes) await this.handle.sync();
      renameSync(this.options.paths.bytes, path);
      await this.handle.chmod(0o400); // only now: a partial file that is left here is opened for writing again
      rmSync(this.options.paths.origin, { force: true });
      await this.handle.close();
    } catch (cause) {
      throw this.failure(cause);
    }
  }

  /** After a failure: keeps what a server can go on with, unless it is known to be wrong. */
  async abandon(keep: boolean): Promise<void> {
    const { bytes, origin } = this.options.paths;
    try {
      // What has come but is not written yet would come again.
      await this.writer.flush();
    } catch {
      // The failure that led here has been, or is, this one.
    } finally {
      await this.handle.close();
    }
    if (keep && this.origin?.ranges === true && this.length > 0) return;
    rmSync(bytes, { force: true });
    rmSync(origin, { force: true });
  }

  /** Whatever is wrong with it, be it too much, shows in the digest. */
  private async readBack(): Promise<void> {
    for await (const chunk of readChunks(this.handle, 0, Number.MAX_SAFE_INTEGER)) await this.take(chunk);
    this.writer = new Writer(this.handle, this.length);
  }

  private take(bytes: Uint8Array): Promise<void> | undefined {
    this.hash.update(bytes);
    this.length += bytes.length;
    this.options.progress(this.length);
    return this.options.tap?.write(bytes) ?? undefined;
  }

  private failure(cause: unknown): unknown {
    const { paths, descriptor } = this.options;
    return storeFailure(`the blob ${descriptor.digest} could not be stored`, dirname(paths.bytes), cause);
  }
}

/** Whatever was killed while it wrote this: not readable is as good as not there. */
function readOrigin(path: string): Origin | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (typeof value !== 'object' || value === null || !('ranges' in value)) return undefined;
    const validator = 'validator' in value ? value.validator : undefined;
    return typeof validator === 'string' && /^[\x20-\x7e]{1,500}$/.test(validator)
      ? { validator, ranges: value.ranges === true }
      : { ranges: value.ranges === true };
  } catch {
    return undefined;
  }
}
