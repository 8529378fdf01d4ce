import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import type { CopyJob } from '../../src/copy/types.ts';
import { TsvError } from '../../src/model/errors.ts';
import type { CopySession, ExecResult, Through } from '../../src/model/provider.ts';
import { O } from '../../src/sys/flags.ts';
import { type IdRange, idOutside } from '../../src/sys/id-range.ts';
import { signalNumber } from '../../src/sys/signals.ts';

/** How files of containers are copied on this host. */
export interface Copier {
  /** The built program: `dist/parts/copy.js`. */
  readonly program: string;
  /** The ids of containers as this process sees them. */
  readonly uids: readonly IdRange[];
  readonly gids: readonly IdRange[];
  /** Whether this process is the host's root, and not that of the containers. */
  readonly rooted: boolean;
  /** For whoever looks for what belongs to the project. */
  readonly label: string;
}

/** Each part of a CopyJob without what the copier says. */
export type CopyWork = CopyJob extends infer Job ? (Job extends CopyJob ? Omit<Job, 'uids' | 'gids'> : never) : never;

/**
 * Starts the process that copies: it reaches the container's files by a descriptor of their root alone, as the container's
 * root, with those rights that files take. It ends when its archive does.
 */
export function startCopy(copier: Copier, root: string, work: CopyWork, through?: Through): CopySession {
  const { program, uids, gids, label } = copier;
  const [file = '', ...args] = [...become(copier), process.execPath, program];
  const job = JSON.stringify({ ...work, uids, gids });
  const folder = openSync(root, O.PATH | O.DIRECTORY);
  const opened = [folder];
  try {
    const archive = through === undefined ? 'pipe' : openFifo(through, work.do === 'pack' ? O.WRONLY : O.RDONLY);
    if (archive !== 'pipe') opened.push(archive);
    const child = spawn(file, [...args, job], {
      cwd: '/',
      detached: true,
      stdio: work.do === 'pack' ? ['ignore', archive, 'pipe', folder] : [archive, 'ignore', 'pipe', folder],
      env: { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin', TSV_ID: label },
    });
    const { stderr } = child;
    if (stderr === null) throw new TsvError('TSV_INTERNAL', 'a copy has no errors');
    const stdin = child.stdin ?? new Writable({ write: (_chunk, _encoding, done) => done() });
    const stdout = child.stdout ?? Readable.from([]);
    stdin.on('error', () => {}); // it has ended: its exit code tells
    // By its archive, not by a signal: it then leaves nothing that is not whole.
    let end = (): void => {
      stdin.destroy();
      stdout.destroy();
    };
    const exited = new Promise<ExecResult>((resolve, reject) => {
      child.once('error', (cause) => reject(new TsvError('TSV_COPY', `${file} could not be started`, { cause })));
      child.once('close', (code, signal) =>
        resolve(
          signal === null ? { code: code ?? 255 } : { code: 128 + signalNumber(signal), signal: signal.slice(3) },
        ),
      );
      // The archive's other end is the caller's, who closes it when told so.
      if (through !== undefined) end = () => reject(new TsvError('TSV_COPY', 'the machine has ended'));
    });
    exited.catch(() => {}); // whoever waits hears of it
    return { stdin, stdout, stderr, resize: () => {}, signal: () => end(), exited, direct: through !== undefined };
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** Does not wait for the other end: fifo(7) says that opening for both never does. */
function openFifo(path: string, flags: number): number {
  const both = openSync(path, O.RDWR | O.NOFOLLOW);
  try {
    return openSync(`/proc/self/fd/${both}`, flags);
  } finally {
    closeSync(both);
  }
}

const rights = '-all,+chown,+dac_override,+fowner,+fsetid,+setfcap';

/** setpriv(1). What is made belongs to the container's root; it may give files away, and open those of others in there. */
function become({ rooted, uids, gids }: Copier): readonly string[] {
  const id = (ranges: readonly IdRange[]): string => String(idOutside(ranges, 0) ?? 0);
  const user = [
    '--reuid',
    id(uids),
    '--regid',
    id(gids),
    '--clear-groups',
    '--inh-caps',
    rights,
    '--ambient-caps',
    rights,
  ];
  return ['setpriv', '--no-new-privs', ...(rooted ? user : ['--inh-caps', '-all']), '--bounding-set', rights, '--'];
}
