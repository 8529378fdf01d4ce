import { closeSync, constants, fstatSync, openSync, rmSync } from 'node:fs';
import { TsvError } from '../../model/errors.ts';
import { tryLockExclusive } from '../../sys/flock.ts';
import { pause } from '../download/options.ts';

const lookEveryMs = 100;

/** A held lock. It is free when {@link release} was called, or when this process has ended in whatever way. */
export interface BlobLock {
  release(): void;
}

/**
 * Locks `file` (flock(2)), alone among all who ask, in this process and in others. `waiting` is called again and again
 * while somebody else has it. @throws TSV_CANCELLED
 */
export async function lockBlob(file: string, signal: AbortSignal, waiting: () => void): Promise<BlobLock> {
  for (;;) {
    if (signal.aborted) throw new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });
    const lock = tryLockBlob(file);
    if (lock !== undefined) return lock;
    waiting();
    await pause(lookEveryMs, signal);
  }
}

/** The same without waiting. undefined: somebody has it. */
export function tryLockBlob(file: string): BlobLock | undefined {
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  try {
    // Who had it removes the file: a lock on one without a name excludes nobody.
    if (tryLockExclusive(fd) && fstatSync(fd).nlink > 0) {
      return {
        release: () => {
          rmSync(file, { force: true });
          closeSync(fd);
        },
      };
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  closeSync(fd);
  return undefined;
}
