import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { TsvError } from '../../model/errors.ts';
import type { Descriptor, Digest } from '../../model/image.ts';
import { readChunks } from '../download/local.ts';
import { hasher } from './digest.ts';
import { damaged } from './failures.ts';

/** A manifest is at most 4 MiB, a config about as much: what is more is read as a stream. */
const documentBytes = 16 * 1024 * 1024;
const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export const sizeOf = (path: string): number => lstatSync(path, { throwIfNoEntry: false })?.size ?? 0;

/** Whether it is there with the right size; what its bytes are is found out by whoever reads them. */
export function hasBlob(path: string, { size }: Descriptor): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat?.isFile() === true && stat.size === size;
}

/** A small document, checked. @throws TSV_DIGEST (and removes it), TSV_STORE, TSV_IMAGE (too large) */
export function readDocument(path: string, descriptor: Descriptor): Buffer {
  const { digest, size } = descriptor;
  if (size > documentBytes) {
    throw new TsvError('TSV_IMAGE', `${digest} is too large for a document: ${size} bytes`);
  }
  let content: Buffer;
  let inode: number;
  try {
    const fd = openSync(path, flags);
    try {
      const stat = fstatSync(fd);
      inode = stat.ino;
      // One byte more than there should be is enough to see that it is wrong.
      content = stat.size <= documentBytes ? readFileSync(fd) : Buffer.alloc(0);
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    throw notReadable(digest, path, cause);
  }
  const hash = hasher(digest);
  hash.update(content);
  const got = hash.digest();
  if (got === digest && content.length === size) return content;
  removeIfSame(path, inode);
  throw damaged(path, descriptor, `${got}, ${content.length} bytes`);
}

/** All bytes of a blob, hashed on the way. @throws after the last one TSV_DIGEST (and removes it); TSV_STORE */
export async function* streamBlob(path: string, descriptor: Descriptor): AsyncGenerator<Uint8Array> {
  const { digest, size } = descriptor;
  const handle = await openBlob(digest, path);
  const hash = hasher(digest);
  let length = 0;
  let inode: number;
  try {
    inode = (await handle.stat()).ino;
    for await (const chunk of readChunks(handle, 0, size + 1)) {
      hash.update(chunk);
      length += chunk.length;
      yield chunk;
    }
  } finally {
    await handle.close();
  }
  const got = hash.digest();
  if (got === digest && length === size) return;
  removeIfSame(path, inode);
  throw damaged(path, descriptor, `${got}, ${length > size ? 'more' : length} bytes`);
}

/** The digest and length of what is in a blob's file. undefined: it is gone. @throws TSV_STORE, TSV_CANCELLED */
export async function measureBlob(
  path: string,
  digest: Digest,
  signal: AbortSignal,
): Promise<{ readonly digest: Digest; readonly bytes: number } | undefined> {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
  const handle = await openBlob(digest, path);
  const hash = hasher(digest);
  let bytes = 0;
  try {
    for await (const chunk of readChunks(handle, 0, Number.MAX_SAFE_INTEGER)) {
      if (signal.aborted) throw new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });
      hash.update(chunk);
      bytes += chunk.length;
    }
  } finally {
    await handle.close();
  }
  return { digest: hash.digest(), bytes };
}

/** Another process may have put a right one in its place already. */
function removeIfSame(path: string, inode: number): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.ino === inode) rmSync(path, { force: true });
}

const openBlob = (digest: Digest, path: string): Promise<FileHandle> =>
  open(path, flags).catch((cause: unknown) => {
    throw notReadable(digest, path, cause);
  });

function notReadable(digest: Digest, path: string, cause: unknown): TsvError {
  const gone = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
  return new TsvError('TSV_STORE', `the store ${gone ? 'does not have' : 'could not read'} the blob ${digest}`, {
    details: [gone ? path : String(cause)],
    hint: gone ? 'pull the image again' : `see that ${path} can be read by this user`,
    cause,
  });
}
