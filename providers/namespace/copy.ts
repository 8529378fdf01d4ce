import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { CopyJob } from '../../src/copy/types.ts';
import { TsvError } from '../../src/model/errors.ts';
import type { ExecResult, ExecSession } from '../../src/model/provider.ts';
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
 * root, with those rights that files take.
 */
export function startCopy(copier: Copier, root: string, work: CopyWork): ExecSession {
  const { program, uids, gids, label } = copier;
  const [file = '', ...args] = [...become(copier), process.execPath, program];
  const job = JSON.stringify({ ...work, uids, gids });
  const folder = openSync(root, O.PATH | O.DIRECTORY);
  try {
    const child = spawn(file, [...args, job], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe', folder],
      env: { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin', TSV_ID: label },
    });
    const { stdin, stdout, stderr } = child;
    if (stdin === null || stdout === null || stderr === null) throw new TsvError('TSV_INTERNAL', 'a copy has no pipes');
    stdin.on('error', () => {}); // it has ended: its exit code tells
    const exited = new Promise<ExecResult>((resolve, reject) => {
      child.once('error', (cause) => reject(new TsvError('TSV_COPY', `${file} could not be started`, { cause })));
      child.once('close', (code, signal) =>
        resolve(
          signal === null ? { code: code ?? 255 } : { code: 128 + signalNumber(signal), signal: signal.slice(3) },
        ),
      );
    });
    exited.catch(() => {}); // whoever waits hears of it
    // By its streams, not by a signal: it then leaves nothing that is not whole.
    const end = (): void => {
      stdin.destroy();
      stdout.destroy();
    };
    return { stdin, stdout, stderr, resize: () => {}, signal: end, exited };
  } finally {
    closeSync(folder);
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
