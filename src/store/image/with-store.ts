import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { holdingLock, type LockKind, type LockWait } from '../held-lock.ts';
import { imageFiles, imagesFolder } from './layout.ts';

/**
 * Runs `work` while nothing is removed from the store (`shared`: pulls and loads, as many as there are), or while nothing
 * is added to it (`exclusive`: removal).
 */
export async function withStore<T>(
  store: string,
  kind: LockKind,
  options: { readonly signal: AbortSignal; progress(text: string): void },
  work: () => Promise<T>,
): Promise<T> {
  const folder = imagesFolder(store);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const wait: LockWait = {
    signal: options.signal,
    waiting: () =>
      options.progress(
        kind === 'shared' ? 'another tsv removes from the store: waiting' : 'another tsv adds to the store: waiting',
      ),
  };
  return holdingLock(join(folder, imageFiles.lock), kind, wait, work);
}
