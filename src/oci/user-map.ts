import { execFileSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { waitExit } from '../sys/children.ts';
import { CLONE, O } from '../sys/flags.ts';
import { fork } from '../sys/fork.ts';
import { writeProc } from '../sys/procfs.ts';
import type { OciIdMapping } from './spec.ts';

const mapText = (mappings: readonly OciIdMapping[]): string =>
  mappings.map((m) => `${m.containerID} ${m.hostID} ${m.size}\n`).join('');

/** Writes the id maps of a new user namespace: user_namespaces(7). Ranges that are not one's own need newuidmap(1). */
export function writeUserMap(
  pid: number,
  uids: readonly OciIdMapping[],
  gids: readonly OciIdMapping[],
  privileged: boolean,
): void {
  if (!privileged && isOwnId(gids, process.getegid?.())) writeProc(`${pid}/setgroups`, 'deny');
  write(pid, 'uid', uids, privileged || isOwnId(uids, process.geteuid?.()));
  write(pid, 'gid', gids, privileged || isOwnId(gids, process.getegid?.()));
}

/** The one map that every user may write: one id, the own one. */
const isOwnId = (mappings: readonly OciIdMapping[], own: number | undefined): boolean =>
  mappings.length === 1 && mappings[0]?.size === 1 && mappings[0].hostID === own;

/** setgroups(2) is forbidden in a namespace that an ordinary user mapped alone. */
export const forbidsGroups = (gids: readonly OciIdMapping[], privileged: boolean): boolean =>
  !privileged && isOwnId(gids, process.getegid?.());

function write(pid: number, kind: 'uid' | 'gid', mappings: readonly OciIdMapping[], direct: boolean): void {
  try {
    if (direct) {
      writeProc(`${pid}/${kind}_map`, mapText(mappings));
      return;
    }
    const numbers = mappings.flatMap((m) => [m.containerID, m.hostID, m.size].map(String));
    execFileSync(`new${kind}map`, [String(pid), ...numbers], { stdio: ['ignore', 'ignore', 'pipe'] });
  } catch (error) {
    const { code, stderr } = error as NodeJS.ErrnoException & { stderr?: Buffer };
    throw new TsvError('TSV_CONTAINER_START', `linux.${kind}Mappings: ${code ?? 'not possible for this user'}`, {
      details: [...mappings.map((m) => `${m.containerID} ${m.hostID} ${m.size}`), ...lines(stderr)],
      ...(code === 'ENOENT' ? { hint: `new${kind}map is in Debian's package uidmap` } : {}),
      cause: error,
    });
  }
}

const lines = (text: Buffer | undefined): string[] => (text?.toString().trim() ?? '').split('\n').filter(Boolean);

/** A user namespace that exists for its id map only: for idmapped mounts (mount_setattr(2)). Gives its descriptor. */
export async function makeUserNamespace(
  uids: readonly OciIdMapping[],
  gids: readonly OciIdMapping[],
  privileged: boolean,
): Promise<number> {
  const child = fork({
    fds: {},
    steps: [
      { call: 'unshare', args: [CLONE.NEWUSER] },
      { report: 'unshared' },
      { call: 'read', args: [{ fd: 'go' }, { bytes: new Uint8Array(8), out: true }, 1], mode: 'positive' },
    ],
  });
  const gone = waitExit(child.pid);
  try {
    await child.reported('unshared');
    writeUserMap(child.pid, uids, gids, privileged);
    return openSync(`/proc/${child.pid}/ns/user`, O.RDONLY);
  } finally {
    child.abandon();
    await gone;
  }
}
