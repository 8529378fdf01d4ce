import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { RemoteError, type RemoteFile } from './remote.ts';

const chunkBytes = 1024 * 1024;

/** A file of this host: a path or a `file://` URL. */
export function localFile(source: string): RemoteFile {
  return {
    name: source,
    open: async ({ offset, end, validator, signal }) => {
      const { own, size } = await withFile(source, identity);
      const start = validator === undefined || validator === own ? Math.min(offset, size) : 0;
      const until = Math.min(end ?? size, size);
      return {
        offset: start,
        total: size,
        validator: own,
        ranges: true,
        body: body(source, own, start, until, signal),
      };
    },
  };
}

/** Bytes `start` to `end` (exclusive) of an open file; ends early where the file does. */
export async function* readChunks(handle: FileHandle, start: number, end: number): AsyncGenerator<Buffer> {
  for (let position = start; position < end; ) {
    const length = Math.min(chunkBytes, end - position);
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(length), 0, length, position);
    if (bytesRead === 0) return;
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Opened when the first byte is wanted: a body that nobody reads holds nothing. */
async function* body(
  source: string,
  own: string,
  start: number,
  end: number,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const handle = await openPlain(source);
  try {
    if ((await identity(handle)).own !== own) throw new RemoteError(`${source} has changed`, { retry: true });
    for await (const chunk of readChunks(handle, start, end)) {
      signal.throwIfAborted();
      yield chunk;
    }
  } finally {
    await handle.close();
  }
}

async function identity(handle: FileHandle): Promise<{ readonly own: string; readonly size: number }> {
  const { size, mtimeNs, ino } = await handle.stat({ bigint: true });
  return { own: `${ino}-${mtimeNs}-${size}`, size: Number(size) };
}

async function withFile<T>(source: string, work: (handle: FileHandle) => Promise<T>): Promise<T> {
  const handle = await openPlain(source);
  try {
    return await work(handle);
  } finally {
    await handle.close();
  }
}

async function openPlain(source: string): Promise<FileHandle> {
  let handle: FileHandle | undefined;
  try {
    const path = source.startsWith('file:') ? fileURLToPath(source) : source;
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK); // a pipe must not hang
    if ((await handle.stat()).isFile()) return handle;
  } catch (cause) {
    throw new RemoteError(`${source} could not be read: ${(cause as Error).message}`, { retry: false, cause });
  }
  await handle.close();
  throw new RemoteError(`${source} is not a plain file`, { retry: false });
}
