import { readFileSync, realpathSync, type Stats, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { TsvError } from '../../src/model/errors.ts';
import type { Share } from '../../src/model/project.ts';
import type { OciIdMapping } from '../../src/oci/spec.ts';
import type { IdRange } from '../../src/sys/id-range.ts';

/** A share as it is mounted. */
export interface PlacedShare extends Pick<Share, 'host' | 'guest' | 'readonly'> {
  /** Absent: files have the ids that they have. */
  readonly mappings?: { readonly uids: readonly OciIdMapping[]; readonly gids: readonly OciIdMapping[] };
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The id map of a share's mount (mount_setattr(2), MOUNT_ATTR_IDMAP): on the left the ids that its files have, on the right
 * those that processes have on the host. What belongs to `owner` belongs to `inside` of the container. Its other ids are
 * nobody's on the host, and files keep them; files of other users of the host are nobody's in the container.
 * @param block the ids of the container
 */
export function shareMappings({ outside: first, count }: IdRange, owner: number, inside: number): OciIdMapping[] {
  const end = first + count;
  const seen = first + inside;
  const same = (from: number, to: number): OciIdMapping[] =>
    from < to ? [{ containerID: from, hostID: from, size: to - from }] : [];
  if (owner === seen) return same(first, end);
  const moved: OciIdMapping[] = [{ containerID: owner, hostID: seen, size: 1 }];
  // The folder belongs to another id of the container: those two change places.
  const isOwn = owner >= first && owner < end;
  if (isOwn) moved.push({ containerID: seen, hostID: owner, size: 1 });
  const [low, high] = isOwn ? [Math.min(seen, owner), Math.max(seen, owner)] : [seen, seen];
  return [...moved, ...same(first, low), ...same(low + 1, high), ...same(high + 1, end)];
}

/**
 * Whether what a container makes may belong to this owner without a word of the Tsfile. A container's root may set the
 * setuid and setgid bits of its files, and file capabilities: of the host's root, or of a group that is more than the
 * owner's own, other users of the host would get what is not theirs.
 * @param passwd passwd(5) of the host
 */
export function isOrdinaryOwner({ uid, gid }: Owner, passwd: string): boolean {
  if (uid === 0) return false;
  const entry = passwd
    .split('\n')
    .map((line) => line.split(':'))
    .find((fields) => fields[2] === String(uid));
  return entry === undefined ? gid >= firstOrdinaryId : entry[3] === String(gid);
}

/** login.defs(5), GID_MIN: below are the groups of the system. */
const firstOrdinaryId = 1000;

/**
 * Whether only the host's root gets at what is below a folder's path: one of the folders above it lets nobody else in, and
 * nobody else can put another in its place.
 * @param path without symbolic links
 */
export function isOnlyForRoot(path: string, stat: (path: string) => Pick<Stats, 'uid' | 'mode'> = statSync): boolean {
  const above = dirname(path);
  if (above === path) return false;
  return isOnlyForRoot(above, stat) || (isSteady(above, stat) && (stat(above).mode & 0o011) === 0);
}

/** Nobody but root can rename what is on the way to a folder. */
function isSteady(folder: string, stat: (path: string) => Pick<Stats, 'uid' | 'mode'>): boolean {
  const { uid, mode } = stat(folder);
  const closed = uid === 0 && ((mode & 0o022) === 0 || (mode & 0o1000) !== 0);
  return closed && (folder === '/' || isSteady(dirname(folder), stat));
}

export interface ShareHost {
  /** undefined: an ordinary user's, whose mounts have no id maps (mount_setattr(2), EPERM). */
  readonly block: IdRange | undefined;
  /** The user and group of the machine that the owner of a share is. @param uid absent: the one that the command runs as */
  user(uid: number | undefined): Owner;
  notice(text: string): void;
}

/**
 * The shares of a machine, with what the host has there now.
 * @throws TSV_CONTAINER_START when there is nothing
 */
export function placeShares(shares: readonly Share[], host: ShareHost): PlacedShare[] {
  return shares.map((share) => (host.block === undefined ? plain(share, host) : mapped(share, host, host.block)));
}

/** The owner of the user's files is root inside, as the container's ids have it. */
function plain(share: Share, { user, notice }: ShareHost): PlacedShare {
  const { path } = lookAt(share);
  const { uid } = user(share.uid);
  if (uid !== 0 && !share.readonly)
    notice(
      `${share.guest} belongs to its root, not to its user ${uid}: only root of the host can give a share to another user`,
    );
  return { host: path, guest: share.guest, readonly: share.readonly };
}

/** Pure. Why an ordinary user's machine cannot have a share: empty, or one reason. */
export const foreignShare = ({ guest, uid = 0, gid = 0 }: Share): string[] =>
  uid === 0 && gid === 0
    ? []
    : [`the share at ${guest} can belong to ${uid}:${gid} only where tsv runs as root; without root it belongs to 0:0`];

function mapped(share: Share, { user, notice }: ShareHost, block: IdRange): PlacedShare {
  const { path, owner } = lookAt(share);
  const inside = user(share.uid);
  const isGiven = share.uid !== undefined || share.gid !== undefined;
  const isRefused =
    !share.readonly && !isGiven && !isOrdinaryOwner(owner, readFileSync('/etc/passwd', 'utf8')) && !isOnlyForRoot(path);
  if (isRefused)
    notice(
      `${share.guest} is read-only: on the host, ${share.host} belongs to ${owner.uid === 0 ? 'root' : `group ${owner.gid}`}, ` +
        'and others can get at it (`uid: 0` in its `share` lets the machine write all the same)',
    );
  return {
    host: path,
    guest: share.guest,
    readonly: share.readonly || isRefused,
    mappings: {
      uids: shareMappings(block, owner.uid, inside.uid),
      gids: shareMappings(block, owner.gid, share.gid ?? inside.gid),
    },
  };
}

function lookAt({ host, guest }: Share): { path: string; owner: Owner } {
  try {
    const path = realpathSync(host);
    return { path, owner: statSync(path) };
  } catch (error) {
    throw new TsvError('TSV_CONTAINER_START', `the share at ${guest} has nothing to show`, {
      details: [`${host}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`],
      cause: error,
    });
  }
}
