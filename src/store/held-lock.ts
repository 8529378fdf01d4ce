import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { tryLockExclusive, tryLockShared } from '../sys/flock.ts';

export type LockKind = 'shared' | 'exclusive';

export interface LockWait {
  readonly signal: AbortSignal;
  /** Called once, when somebody else holds it. */
  waiting(): void;
}

/**
 * Runs `work` while this process holds `file` locked (flock(2)); `shared` together with others, `exclusive` alone. The
 * kernel gives the lock back however this process ends. The file is made when it is missing and never removed: a waiter
 * could otherwise hold an unlinked file while somebody else locks its successor.
 * @throws TSV_CANCELLED when `signal` fires while waiting
 */
export async function holdingLock<T>(file: string, kind: LockKind, wait: LockWait, work: () => Promise<T>): Promise<T> {
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  try {
    const taken = kind === 'shared' ? tryLockShared(fd) : tryLockExclusive(fd);
    if (!taken) {
      wait.waiting();
      await waitFor(fd, file, kind, wait.signal);
    }
    return await work();
  } finally {
    closeSync(fd);
  }
}

/**
 * The lock belongs to the open file, not to a process: util-linux `flock` waits for it on a copy of our descriptor and
 * ends, and we have it. A wait in this process would stop its event loop, and with it Ctrl-C.
 */
async function waitFor(fd: number, file: string, kind: LockKind, signal: AbortSignal): Promise<void> {
  const cancelled = () => new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });
  if (signal.aborted) throw cancelled();
  const child = spawn('flock', [`--${kind}`, '3'], { stdio: ['ignore', 'ignore', 'pipe', fd] });
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const stop = () => void child.kill();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    if (signal.aborted) throw cancelled();
    if (code !== 0) throw new TsvError('TSV_STORE', `${file} could not be locked`, { details: [stderr.trim()] });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    throw new TsvError('TSV_HOST_MISSING', 'the program flock is not installed', {
      hint: 'sudo apt-get install util-linux',
      cause,
    });
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
