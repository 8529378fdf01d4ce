import { randomBytes } from 'node:crypto';
import { posix } from 'node:path';
import { Readable } from 'node:stream';
import type { SFTPWrapper } from 'ssh2';
import { TsvError } from '../model/errors.ts';

/** Bytes per request: what ssh2 sends as one packet. */
const pieceBytes = 32 * 1024;
const requestsInFlight = 16;

/** draft-ietf-secsh-filexfer-02, section 7. */
const noSuchFile = 2;
const permissionDenied = 3;

type Reply<T> = (error: (Error & { code?: number }) | null | undefined, value: T) => void;

function ask<T>(call: (reply: Reply<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, value) => (error ? reject(error) : resolve(value)));
  });
}

/**
 * Writes a file of the machine whole or not at all: a temporary name in the same folder, fsync where the server
 * offers it, then rename over (posix-rename@openssh.com).
 * @throws TSV_SSH with the reason: no such folder, a folder in its place, no permission, no space.
 */
export async function putFile(
  sftp: SFTPWrapper,
  content: Readable | Buffer,
  path: string,
  options: { mode: number; chown?: (path: string) => Promise<void> },
): Promise<void> {
  const temporary = posix.join(posix.dirname(path), `.tsv-${randomBytes(8).toString('hex')}`);
  let made = false;
  if (!Buffer.isBuffer(content)) content.on('error', () => {}); // writeAll throws it when it gets there
  try {
    const handle = await ask<Buffer>((reply) => sftp.open(temporary, 'wx', { mode: 0o600 }, reply));
    made = true;
    try {
      await writeAll(sftp, handle, content);
      await ask<void>((reply) => sftp.ext_openssh_fsync(handle, (error) => reply(error, undefined))).catch(notOffered);
    } finally {
      await ask<void>((reply) => sftp.close(handle, (error) => reply(error, undefined)));
    }
    await options.chown?.(temporary);
    // After chown, which clears set-user-ID bits (chown(2)).
    await ask<void>((reply) => sftp.chmod(temporary, options.mode, (error) => reply(error, undefined)));
    await ask<void>((reply) => sftp.ext_openssh_rename(temporary, path, (error) => reply(error, undefined)));
  } catch (error) {
    if (made) await ask<void>((reply) => sftp.unlink(temporary, (e) => reply(e, undefined))).catch(() => {});
    throw await explain(sftp, error, path, 'write');
  } finally {
    if (!Buffer.isBuffer(content)) content.destroy();
  }
}

async function writeAll(sftp: SFTPWrapper, handle: Buffer, content: Readable | Buffer): Promise<void> {
  const running = new Set<Promise<void>>();
  let failure: unknown;
  let position = 0;
  const source: AsyncIterable<Buffer | string> | readonly Buffer[] = Buffer.isBuffer(content) ? [content] : content;
  for await (const chunk of source) {
    const bytes = Buffer.from(chunk);
    for (let at = 0; at < bytes.length && failure === undefined; at += pieceBytes) {
      const piece = bytes.subarray(at, at + pieceBytes);
      const start = position;
      position += piece.length;
      const write = ask<void>((reply) =>
        sftp.write(handle, piece, 0, piece.length, start, (error) => reply(error, undefined)),
      )
        .catch((error: unknown) => {
          failure ??= error;
        })
        .finally(() => running.delete(write));
      running.add(write);
      if (running.size >= requestsInFlight) await Promise.race(running);
    }
    if (failure !== undefined) break;
  }
  await Promise.all(running);
  if (failure !== undefined) throw failure;
}

/** A file's bytes. @throws TSV_SSH when it cannot be opened; the stream itself fails when the connection breaks. */
export async function getFile(sftp: SFTPWrapper, path: string): Promise<Readable> {
  let handle: Buffer;
  try {
    handle = await ask<Buffer>((reply) => sftp.open(path, 'r', reply));
  } catch (error) {
    throw await explain(sftp, error, path, 'read');
  }
  return Readable.from(readAll(sftp, handle, path), { objectMode: false, highWaterMark: 4 * pieceBytes });
}

async function* readAll(sftp: SFTPWrapper, handle: Buffer, path: string): AsyncGenerator<Buffer> {
  try {
    for (let position = 0; ; ) {
      const piece = Buffer.allocUnsafe(pieceBytes);
      const length = await new Promise<number>((resolve, reject) => {
        sftp.read(handle, piece, 0, piece.length, position, (error, count) => {
          // Code 1 is SSH_FX_EOF, which is how a file ends.
          if (error) (error as { code?: number }).code === 1 ? resolve(0) : reject(error);
          else resolve(count);
        });
      });
      if (length === 0) return;
      position += length;
      yield piece.subarray(0, length);
    }
  } catch (error) {
    throw await explain(sftp, error, path, 'read');
  } finally {
    sftp.close(handle, () => {});
  }
}

/** OP_UNSUPPORTED, or the extension is not in the server's list: then the file is as durable as the server makes it. */
function notOffered(error: unknown): void {
  const { code, message } = error as { code?: number; message?: string };
  if (code !== 8 && !/does not support/.test(message ?? '')) throw error;
}

async function explain(sftp: SFTPWrapper, error: unknown, path: string, verb: 'read' | 'write'): Promise<TsvError> {
  if (error instanceof TsvError) return error;
  const { code, message } = error as { code?: number; message?: string };
  const isFolder = (name: string): Promise<boolean> =>
    ask<{ isDirectory(): boolean }>((reply) => sftp.stat(name, reply)).then(
      (stats) => stats.isDirectory(),
      () => false,
    );
  let why = message ?? String(error);
  if (code !== undefined && (await isFolder(path))) why = 'it is a folder';
  else if (code === noSuchFile) {
    const parent = posix.dirname(path);
    why = (await isFolder(parent)) ? 'no such file' : `the folder ${parent} does not exist in the machine`;
  } else if (code === permissionDenied) why = 'permission denied';
  return new TsvError('TSV_SSH', `cannot ${verb} ${path} in the machine: ${why}`, { cause: error });
}
