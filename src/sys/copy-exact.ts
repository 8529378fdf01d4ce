import type { TsvError } from '../model/errors.ts';
import { mustRun } from './command.ts';

/**
 * A copy of a file or a folder that has its name: with owners, modes, times, links, attributes, whiteouts and holes; it shares
 * blocks where the file system can. cp(1), in place of a name that is not there. Interrupted: the signal's reason.
 * @throws `failure`, with cp's words
 */
export async function copyExact(
  from: string,
  to: string,
  failure: { readonly code: TsvError['code']; readonly message: string },
  signal?: AbortSignal,
): Promise<void> {
  const copy = ['cp', '-dR', '--preserve=all', '--preserve=xattr', '--reflink=auto', '--sparse=auto', '-T', '--'];
  try {
    await mustRun(
      [...copy, from, to],
      { ...failure, hint: `look at the free space with: df -h ${to}` },
      signal === undefined ? {} : { signal },
    );
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
