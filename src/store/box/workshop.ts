import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, type WriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { TsvError } from '../../model/errors.ts';
import { mustRun } from '../../sys/command.ts';
import { enterPrefix, startHolder, type UserMap } from '../../sys/userns.ts';

/** Where the workshop's folder is seen inside. Root's own store lies below /root, which the mapped ids may not enter. */
export const workDir = '/mnt';

/** Programs of Debian's sbin folders are used, and an ordinary user's PATH often lacks those. */
export const programPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface Job {
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What failed, should it fail. */
  readonly failure: string;
  readonly onLine?: (line: string) => void;
}

/** A place to build in: root of the sandbox's ids, with a mount namespace of its own. */
export interface Workshop {
  /** Runs a program to its end. @throws TSV_BOX_BUILD with its last lines; TSV_CANCELLED. */
  run(job: Job): Promise<void>;
}

/**
 * Opens a workshop whose {@link workDir} is `dir`, for as long as `work` takes. All output goes to `logFile`.
 * Whatever runs in it ends with it: each job has a PID namespace that dies with its first process, and that one
 * dies with this process (PR_SET_PDEATHSIG), even by SIGKILL.
 */
export async function withWorkshop<T>(
  options: { map: UserMap; dir: string; logFile: string; signal: AbortSignal },
  work: (workshop: Workshop) => Promise<T>,
): Promise<T> {
  const { map, dir, logFile, signal } = options;
  const holder = await startHolder(map, { namespaces: ['mount'], label: 'tsv-box' });
  const log = createWriteStream(logFile, { flags: 'a', mode: 0o600 });
  log.on('error', () => {}); // a full disk: the failing program says so too
  try {
    const pid = holder.process.pid;
    // As root this is done with the host's rights: they reach `dir`, and hold in the namespace below them as well.
    const mounter = enterPrefix(pid, map.rooted ? ['mount'] : ['user', 'mount']);
    await mustRun([...mounter, 'mount', '--rbind', dir, workDir], {
      code: 'TSV_BOX_BUILD',
      message: `${dir} could not be bound to ${workDir}`,
    });
    const prefix = [
      ...enterPrefix(pid, ['user', 'mount']),
      ...['setpriv', '--pdeathsig', 'KILL'],
      ...['unshare', '--pid', '--fork', '--kill-child', '--mount-proc', '--'],
    ];
    return await work({ run: (job) => runJob(prefix, job, log, dir, signal) });
  } finally {
    holder.release();
    log.end();
  }
}

async function runJob(
  prefix: readonly string[],
  job: Job,
  log: WriteStream,
  dir: string,
  signal: AbortSignal,
): Promise<void> {
  const cancelled = () => new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });
  if (signal.aborted) throw cancelled();
  const [file = '', ...args] = [...prefix, ...job.argv];
  const child = spawn(file, args, {
    cwd: '/',
    detached: true, // Ctrl-C comes as `signal`
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...job.env, PATH: programPath, LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive', HOME: '/' },
  });
  const last: string[] = [];
  const onLine = (line: string) => {
    log.write(`${line}\n`);
    last.push(line);
    if (last.length > 200) last.shift();
    job.onLine?.(line);
  };
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', onLine);
  // `unshare --fork` ignores SIGTERM; its death takes the whole PID namespace along.
  const stop = () => {
    child.kill('SIGKILL');
  };
  signal.addEventListener('abort', stop, { once: true });
  let code: number | null;
  try {
    [code] = (await once(child, 'close')) as [number | null];
  } catch (cause) {
    throw new TsvError('TSV_HOST_MISSING', `the program ${file} is not installed`, {
      hint: 'sudo apt-get install util-linux',
      cause,
    });
  } finally {
    signal.removeEventListener('abort', stop);
  }
  if (signal.aborted) throw cancelled();
  if (code !== 0) throw failed(job.failure, last, dir, String(log.path));
}

function failed(message: string, lines: readonly string[], dir: string, logFile: string): TsvError {
  const full = lines.some((line) => /No space left on device|not have enough free space/i.test(line));
  // apt repeats itself: its E: lines are what counts.
  const errors = lines.filter((line) => /^(E|Err:\d+)|error|No space left/i.test(line));
  return new TsvError('TSV_BOX_BUILD', full ? `${message}: the disk is full` : message, {
    details: (errors.length > 0 ? errors : lines).slice(-6),
    hint: full ? `make room in ${dir}; a box needs about 2 GiB` : `all of its output is in ${logFile}`,
  });
}
