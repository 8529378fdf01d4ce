import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
} from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { vmUsers } from './userns.ts';

/**
 * Whether what this process starts can have users of its own: it is root, where the ids of {@link vmUsers} are. In the user
 * namespace of an ordinary user's project they are not (user_namespaces(7)).
 */
export function givesUsers(
  uid = process.geteuid?.(),
  read: () => string = () => readFileSync('/proc/self/uid_map', 'utf8'),
): boolean {
  if (uid !== 0) return false;
  return read()
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .some(([inside = 0, , count = 0]) => inside <= vmUsers.first && inside + count >= vmUsers.first + vmUsers.count);
}

/** Taken by starts of this process whose children do not show yet. */
const taken = new Set<number>();

/**
 * A user that no process has, most often the same for the same name. It is kept for its caller until `release`.
 * @param inUse which users processes have
 */
export function takeUser(name: string, inUse: () => ReadonlySet<number> = usersOfProcesses) {
  const used = inUse();
  const start = createHash('sha256').update(name).digest().readUInt32LE() % vmUsers.count;
  for (let i = 0; i < vmUsers.count; i++) {
    const uid = vmUsers.first + ((start + i) % vmUsers.count);
    if (used.has(uid) || taken.has(uid)) continue;
    taken.add(uid);
    return { uid, release: () => void taken.delete(uid) };
  }
  throw new TsvError('TSV_VM_START', `all ${vmUsers.count} users for virtual machines are in use`);
}

/** Whose /proc/PID are: proc(5). */
function usersOfProcesses(): ReadonlySet<number> {
  const users = new Set<number>();
  for (const entry of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(entry)) continue;
    const uid = statSync(`/proc/${entry}`, { throwIfNoEntry: false })?.uid;
    if (uid !== undefined) users.add(uid);
  }
  return users;
}

/** Makes a file this user's alone. No link is followed, and nothing but a file is given away. @throws TSV_VM_START */
export const giveFile = (file: string, uid: number): void =>
  onFile(file, (fd) => {
    try {
      fchownSync(fd, uid, uid);
    } catch (cause) {
      throw new TsvError('TSV_VM_START', `${file} cannot become the file of another user`, {
        details: [`QEMU is to be the user ${uid}: ${cause instanceof Error ? cause.message : String(cause)}`],
        hint: 'projects of root have to lie on a file system that knows owners, as ext4, xfs and btrfs do',
        cause,
      });
    }
    fchmodSync(fd, 0o600);
  });

/** Lets everybody read a file who gets to it: it lies in a folder that is for its owner only. */
export const showFile = (file: string): void =>
  onFile(file, (fd) => {
    const { mode } = fstatSync(fd);
    if ((mode & 0o444) !== 0o444) fchmodSync(fd, (mode & 0o777) | 0o444);
  });

function onFile(file: string, work: (fd: number) => void): void {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    if (!fstatSync(fd).isFile()) throw new TsvError('TSV_VM_START', `${file} is not a file`);
    work(fd);
  } finally {
    closeSync(fd);
  }
}
