import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { TsvError } from '../../model/errors.ts';

/**
 * Runs `work` while this process holds `file` locked (flock(2)), alone among all processes of the host.
 * A child of util-linux `flock` holds the lock for as long as its standard input is open: however this process ends,
 * the pipe closes and the lock is free, so there is no such thing as a stale lock.
 * `waiting` is called when somebody else holds it.
 * @throws TSV_CANCELLED when `signal` fires while waiting.
 */
export async function withLock<T>(
  file: string,
  signal: AbortSignal,
  waiting: () => void,
  work: () => Promise<T>,
): Promise<T> {
  let release = await take(file, ['--nonblock'], signal);
  if (release === undefined) {
    waiting();
    release = await take(file, [], signal);
  }
  if (release === undefined) throw new TsvError('TSV_BOX_BUILD', `${file} could not be locked`);
  try {
    return await work();
  } finally {
    await release();
  }
}

/** Resolves to what releases the lock, or to undefined when `--nonblock` found the lock taken. */
async function take(
  file: string,
  options: readonly string[],
  signal: AbortSignal,
): Promise<(() => Promise<void>) | undefined> {
  const cancelled = () => new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });
  if (signal.aborted) throw cancelled();
  const child = spawn(
    'flock',
    ['--exclusive', '--conflict-exit-code', '75', ...options, file, 'sh', '-c', 'echo; read -r _; :'],
    {
      detached: true, // a Ctrl-C of the terminal must not free the lock while this process still cleans up
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  );
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  // SIGKILL to flock alone would leave its shell with the lock: closing the pipe ends both.
  const stop = () => {
    child.kill('SIGTERM');
    child.stdin.destroy();
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    const taken = once(child.stdout, 'data').then(() => true);
    const ended = once(child, 'close').then(([code]) => code as number | null);
    taken.catch(() => {});
    ended.catch(() => {});
    const outcome = await Promise.race([taken, ended]);
    if (signal.aborted) {
      stop();
      throw cancelled();
    }
    if (outcome === true) {
      return async () => {
        child.stdin.destroy();
        await ended; // only then is it free
      };
    }
    if (outcome === 75) return undefined;
    throw new TsvError('TSV_BOX_BUILD', `${file} could not be locked`, { details: [stderr.trim()] });
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
