import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join, posix } from 'node:path';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { TsvError } from '../../../model/errors.ts';
import type { Digest } from '../../../model/image.ts';
import { TarReader } from '../../../tar/reader.ts';
import { documentLimit } from '../documents.ts';
import { imageFiles } from '../layout.ts';

/** A file of an archive of images, where it lies on the disk. */
export interface Member {
  readonly path: string;
  readonly size: number;
  /** Of its bytes. */
  digest(): Digest;
}

/** The files of an archive or of a folder, by name. */
export interface Members {
  /** For people. */
  readonly source: string;
  get(name: string): Member | undefined;
}

const mostFiles = 100_000;
const mostLinks = 40;
/** An archive that grows to more than this many times its size, and to more than `bombFrom` bytes, is an attack. */
const bombRatio = 100;
const bombFrom = 2 ** 30;

export const notAnArchive = (source: string, why: string, cause?: unknown): TsvError =>
  new TsvError('TSV_IMAGE', `${source} is no archive of images`, {
    details: [why],
    hint: 'tsv image save, docker save, podman save and skopeo copy make one; a folder has to be an OCI image layout',
    cause,
  });

/** The files of a folder, by names that do not lead out of it. Its links are its owner's own. */
export function folderMembers(folder: string): Members {
  return {
    source: folder,
    get(name) {
      const path = join(folder, cleanName(name));
      const stat = statSync(path, { throwIfNoEntry: false });
      return stat?.isFile() ? { path, size: stat.size, digest: () => fileDigest(path) } : undefined;
    },
  };
}

function fileDigest(path: string): Digest {
  const hash = createHash('sha256');
  const chunk = Buffer.allocUnsafe(1 << 20);
  const fd = openSync(path, 'r');
  try {
    for (let bytes = readSync(fd, chunk); bytes > 0; bytes = readSync(fd, chunk)) hash.update(chunk.subarray(0, bytes));
  } finally {
    closeSync(fd);
  }
  return `sha256:${hash.digest('hex')}`;
}

/** A document of the archive. undefined: it has none of this name. @throws TSV_IMAGE when it is larger than any should be */
export function readMember(members: Members, name: string): Buffer | undefined {
  const member = members.get(name);
  if (member === undefined) return undefined;
  if (member.size > documentLimit) throw notAnArchive(members.source, `${name} has ${member.size} bytes`);
  return readFileSync(member.path);
}

/**
 * The files of a tar archive, plain or with gzip, from a file or a pipe: unpacked under numbers, never under their own
 * names, into a folder of the store that `work` has for itself.
 * @param images `STORE/images`
 * @throws TSV_IMAGE, TSV_STORE
 */
export async function withTarMembers<T>(
  images: string,
  source: { readonly name: string; readonly input: AsyncIterable<Uint8Array> },
  signal: AbortSignal,
  work: (members: Members) => Promise<T>,
): Promise<T> {
  const scratch = mkdtempSync(join(images, imageFiles.scratch));
  try {
    return await work(await unpack(scratch, source, signal));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    throw new TsvError('TSV_STORE', `${source.name} could not be loaded: the disk is full`, {
      details: ['the store is as it was before'],
      hint: `make room (df -h ${images}); an archive is unpacked there before its images are taken`,
      cause: error,
    });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

export const fileInput = (file: string): AsyncIterable<Uint8Array> =>
  createReadStream(file, { highWaterMark: 1 << 20 });

async function unpack(
  scratch: string,
  { name: source, input }: { name: string; input: AsyncIterable<Uint8Array> },
  signal: AbortSignal,
): Promise<Members> {
  const files = new Map<string, Member>();
  const links = new Map<string, string>();
  let open: { fd: number; name: string; path: string; size: number; hash: ReturnType<typeof createHash> } | undefined;
  let count = 0;
  const reader = new TarReader({
    entry(entry) {
      const name = cleanName(entry.path);
      if (++count > mostFiles) throw notAnArchive(source, `more than ${mostFiles} files`);
      if (entry.type === 'symlink') links.set(name, posix.join(posix.dirname(name), entry.target));
      else if (entry.type === 'hardlink') links.set(name, cleanName(entry.target));
      if (entry.type !== 'file') return;
      if (entry.sparse) throw notAnArchive(source, `${name} is a sparse file`);
      const path = join(scratch, String(count));
      open = { fd: openSync(path, 'wx', 0o600), name, path, size: 0, hash: createHash('sha256') };
    },
    data(bytes) {
      if (open === undefined) return;
      for (let at = 0; at < bytes.length; ) at += writeSync(open.fd, bytes, at);
      open.hash.update(bytes);
      open.size += bytes.length;
    },
    entryEnd() {
      if (open === undefined) return;
      closeSync(open.fd);
      const digest: Digest = `sha256:${open.hash.digest('hex')}`;
      files.set(open.name, { path: open.path, size: open.size, digest: () => digest });
      open = undefined;
    },
  });
  try {
    for await (const chunk of plainBytes(source, input)) {
      signal.throwIfAborted();
      reader.push(Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    }
    reader.end();
  } catch (error) {
    if (error instanceof TsvError && error.code === 'TSV_IMAGE' && !error.message.startsWith(source))
      throw notAnArchive(source, error.details[0] ?? error.message, error);
    throw error;
  } finally {
    if (open !== undefined) closeSync(open.fd);
  }
  const get = (name: string, left = mostLinks): Member | undefined => {
    const target = links.get(name);
    return files.get(name) ?? (target === undefined || left === 0 ? undefined : get(target, left - 1));
  };
  return { source, get: (name) => get(cleanName(name)) };
}

/** As it would be found from the top of the archive: `./a`, `/a` and `b/../a` are `a`. A key of a map, never a path. */
const cleanName = (name: string): string => posix.join('/', name).slice(1).replace(/\/$/, '');

/** The bytes of the tar: without gzip, if that is what the first two say. */
async function* plainBytes(source: string, input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = input[Symbol.asyncIterator]();
  let head: Buffer = Buffer.alloc(0);
  let ended = false;
  while (head.length < 4 && !ended) {
    const next = await iterator.next();
    if (next.done === true) ended = true;
    else head = Buffer.concat([head, next.value]);
  }
  if (head.length === 0) throw notAnArchive(source, 'it is empty');
  let packed = head.length;
  const rest = async function* (): AsyncGenerator<Uint8Array> {
    yield head;
    for (let next = ended ? undefined : await iterator.next(); next?.done === false; next = await iterator.next()) {
      packed += next.value.length;
      yield next.value;
    }
  };
  if (head.readUInt16BE() !== 0x1f8b) {
    const other = otherFormat(head);
    if (other !== undefined) throw notAnArchive(source, `it is packed with ${other}: unpack it first`);
    yield* rest();
    return;
  }
  let bytes = 0;
  try {
    for await (const chunk of Readable.from(rest(), { objectMode: false }).pipe(createGunzip())) {
      bytes += (chunk as Buffer).length;
      if (bytes > bombFrom && bytes > packed * bombRatio)
        throw notAnArchive(source, `it unpacks to more than ${bombRatio} times its size`);
      yield chunk as Buffer;
    }
  } catch (error) {
    if (!/^Z_/.test((error as NodeJS.ErrnoException).code ?? '')) throw error;
    throw notAnArchive(source, `its gzip is damaged: ${(error as Error).message}`, error);
  }
}

function otherFormat(head: Buffer): string | undefined {
  if (head.readUInt32LE() === 0xfd2fb528) return 'zstd';
  if (head.subarray(0, 4).toString('latin1') === '\xfd7zX') return 'xz';
  if (head.subarray(0, 3).toString('latin1') === 'BZh') return 'bzip2';
  return undefined;
}
