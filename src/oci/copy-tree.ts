import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';

/**
 * Copies what is in one folder into another, both given by descriptors, with owners, modes and attributes, its own too; a
 * link is copied, not followed. Where the file system can, blocks are shared (ioctl_ficlone(2)). Resolves to undefined, or to
 * what cp(1) said was wrong.
 * @param options `exact`: an attribute that cannot be copied is wrong, too; `signal`: ends the copy, which is then not whole
 */
export async function copyTree(
  source: number,
  target: number,
  { exact = false, signal }: { readonly exact?: boolean; readonly signal?: AbortSignal } = {},
): Promise<string | undefined> {
  const how = ['-a', '--reflink=auto', ...(exact ? ['--preserve=xattr'] : [])];
  const child = spawn('cp', [...how, '/proc/self/fd/3/.', '/proc/self/fd/4/'], {
    stdio: ['ignore', 'ignore', 'pipe', source, target],
  });
  const stop = () => void child.kill('SIGKILL');
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted === true) stop();
  const [[code], said] = await Promise.all([once(child, 'close'), text(child.stderr as Readable)]);
  signal?.removeEventListener('abort', stop);
  return code === 0 ? undefined : said.trim() || `cp ended with exit code ${code}`;
}
