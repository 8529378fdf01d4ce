import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { TsvError } from '../model/errors.ts';
import type { ProcessRef } from '../model/state.ts';
import { mustRun } from './command.ts';
import type { IdRange } from './id-range.ts';
import { processRef } from './process.ts';
import { writeProc } from './procfs.ts';

/** How ids of the sandbox map to the host's. Id 0 inside is never 0 outside. */
export interface UserMap {
  /** Written by root itself (no newuidmap needed). */
  readonly rooted: boolean;
  readonly uids: readonly IdRange[];
  readonly gids: readonly IdRange[];
}

/** Ids that a full Debian system uses: nobody is 65534. */
const idCount = 65536;
/** The last block of the container range of systemd's uid allocation (UIDS-GIDS): no user or subuid range is there. */
const rootedBase = 0x6fff0000;
/** The block before that: users of virtual machines that root runs, each of them one id (own-user.ts). */
export const vmUsers = { first: rootedBase - idCount, count: idCount } as const;

/**
 * The user map of whoever runs this: root maps a block of its own, a user maps itself to 0 and its
 * /etc/subuid and /etc/subgid range (subuid(5)) to 1…65535.
 * @throws TSV_HOST_MISSING with the command that gives the user such a range.
 */
export function readUserMap(
  user: { uid: number; gid: number; username: string } = userInfo(),
  read: (file: string) => string = (file) => readFileSync(file, 'utf8'),
): UserMap {
  if (user.uid === 0) {
    const block = [{ inside: 0, outside: rootedBase, count: idCount }];
    return { rooted: true, uids: block, gids: block };
  }
  const range = (file: string, own: number): IdRange[] => {
    const sub = subordinateRange(file, user, read);
    return [
      { inside: 0, outside: own, count: 1 },
      { inside: 1, outside: sub.start, count: Math.min(sub.count, idCount - 1) },
    ];
  };
  return { rooted: false, uids: range('/etc/subuid', user.uid), gids: range('/etc/subgid', user.gid) };
}

function subordinateRange(
  file: string,
  user: { uid: number; username: string },
  read: (file: string) => string,
): { start: number; count: number } {
  let text = '';
  try {
    text = read(file);
  } catch {
    // No such file: the same as no line in it.
  }
  for (const line of text.split('\n')) {
    const [name, start, count] = line.trim().split(':');
    if ((name === user.username || name === String(user.uid)) && Number(count) >= idCount - 1) {
      return { start: Number(start), count: Number(count) };
    }
  }
  throw new TsvError('TSV_HOST_MISSING', `user ${user.username} has no range of ${idCount} ids in ${file}`, {
    hint: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${user.username}   # any range that ${file} does not use yet`,
  });
}

const mapText = (ranges: readonly IdRange[]): string =>
  ranges.map((r) => `${r.inside} ${r.outside} ${r.count}\n`).join('');

export interface Holder {
  readonly process: ProcessRef;
  /** Ends the holder; the namespaces go with the last process in them. */
  release(): void;
  /** Lets the holder outlive this process. Until then it ends with it, so that a killed command leaves none behind. */
  keep(): void;
}

/**
 * Starts a sleeping process in new user (and other) namespaces and writes its id maps.
 * `unshare` of util-linux does it, because a Node process has several threads and the kernel refuses those.
 * It ends with this process, unless `keep` is called.
 * @param options `env`: variables that others find it by, besides TSV_ID
 */
export async function startHolder(
  map: UserMap,
  options: { namespaces: readonly ('net' | 'mount')[]; label: string; env?: Readonly<Record<string, string>> },
): Promise<Holder> {
  // `read` fails when the pipe closes: the shell then ends, and the namespaces with it.
  const script = 'printf .; read -r _ && exec sleep infinity';
  const child = spawn(
    'unshare',
    ['--user', ...options.namespaces.map((n) => `--${n}`), 'sh', '-c', script, options.label],
    {
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin', TSV_ID: options.label, ...options.env },
    },
  );
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  await new Promise<void>((resolve, reject) => {
    const fail = (why: string, cause?: unknown) =>
      reject(
        new TsvError('TSV_SANDBOX', 'this host does not let tsv make a user namespace', {
          details: [why],
          hint: 'tsv doctor shows which setting forbids it',
          cause,
        }),
      );
    child.once('error', (error) => fail(error.message, error));
    child.once('exit', () => fail(stderr.trim()));
    child.stdout.once('data', () => resolve());
  });
  const pid = child.pid;
  const ref = pid === undefined ? undefined : processRef(pid);
  if (pid === undefined || ref === undefined) throw new TsvError('TSV_SANDBOX', 'the sandbox ended at once');
  const release = () => {
    child.kill('SIGKILL');
  };
  try {
    await writeMaps(pid, map);
  } catch (error) {
    release();
    throw error;
  }
  child.stdin.on('error', () => {}); // whoever it was kept for may have ended it already
  const keep = () => {
    child.stdin.end('\n');
    child.stdout.destroy();
    child.stderr.destroy();
    child.unref();
  };
  return { process: ref, release, keep };
}

async function writeMaps(pid: number, map: UserMap): Promise<void> {
  if (map.rooted) {
    writeProc(`${pid}/uid_map`, mapText(map.uids));
    writeProc(`${pid}/gid_map`, mapText(map.gids));
    return;
  }
  const args = (ranges: readonly IdRange[]) =>
    ranges.flatMap((r) => [String(r.inside), String(r.outside), String(r.count)]);
  const failure = (program: string) => ({
    code: 'TSV_SANDBOX' as const,
    message: `${program} did not map the ids of the sandbox`,
    hint: 'tsv doctor shows what /etc/subuid and /etc/subgid need',
  });
  await Promise.all([
    mustRun(['newuidmap', String(pid), ...args(map.uids)], failure('newuidmap')),
    mustRun(['newgidmap', String(pid), ...args(map.gids)], failure('newgidmap')),
  ]);
}

/** argv prefix that runs a command as root of the holder's user namespace (nsenter(1)). */
export function enterPrefix(holderPid: number, namespaces: readonly ('user' | 'net' | 'mount')[]): string[] {
  return [
    'nsenter',
    '-t',
    String(holderPid),
    ...namespaces.map((n) => `--${n}`),
    ...(namespaces.includes('user') ? ['-S', '0', '-G', '0'] : []),
    '--',
  ];
}

/**
 * Runs `work` with an argv prefix that makes any command root of a temporary user namespace with this map:
 * for making and removing files that belong to the sandbox's ids.
 */
export async function withUserNamespace<T>(map: UserMap, work: (prefix: readonly string[]) => Promise<T>): Promise<T> {
  const holder = await startHolder(map, { namespaces: ['mount'], label: 'tsv-userns' });
  try {
    return await work(enterPrefix(holder.process.pid, ['user', 'mount']));
  } finally {
    holder.release();
  }
}
