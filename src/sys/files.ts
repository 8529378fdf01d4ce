import { AT, O, RESOLVE } from './flags.ts';
import { allocate, type SyscallArgument, type SyscallName, syscallError, trySyscall } from './libc.ts';

/*
 * Files by the descriptor of their folder and one name, which node:fs does not have. Names are bytes: texts here have one
 * character per byte (latin1). All calls are synchronous and share one piece of memory, so each is over before the next.
 * Returned numbers are results; below 0, -errno.
 */

const pathMax = 4096;
const valueMax = 65536;
const layout = { first: 0, second: pathMax, how: 2 * pathMax, times: 2 * pathMax + 64, value: 2 * pathMax + 128 };
const memory = allocate(layout.value + valueMax);
const at = (offset: number): bigint => memory.address + BigInt(offset);
const addresses = {
  first: at(layout.first),
  second: at(layout.second),
  how: at(layout.how),
  times: at(layout.times),
  value: at(layout.value),
};

const ENAMETOOLONG = 36;
const ENOENT = 2;
const E2BIG = 7;

/** Lays a name out as a C string, or says why it cannot be one. */
function place(text: string, where: 'first' | 'second'): number {
  if (text.length >= pathMax) return -ENAMETOOLONG;
  if (text.includes('\0')) return -ENOENT; // no file has such a name
  memory.bytes.write(text, layout[where], 'latin1');
  memory.bytes[layout[where] + text.length] = 0;
  return 0;
}

/** A call whose second argument is a name below a folder. */
function withName(call: SyscallName, folder: number, name: string, ...rest: SyscallArgument[]): number {
  const failed = place(name, 'first');
  return failed !== 0 ? failed : trySyscall(call, folder, addresses.first, ...rest);
}

/** openat2(2) of a path as if `root` were the root of all files; no link leads out of it. Returns a descriptor. */
export function openInRoot(root: number, path: string, flags: number): number {
  const how = memory.bytes;
  how.writeBigUInt64LE(BigInt(flags | O.CLOEXEC), layout.how);
  how.writeBigUInt64LE(0n, layout.how + 8);
  how.writeBigUInt64LE(BigInt(RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS), layout.how + 16);
  return withName('openat2', root, path, addresses.how, 24);
}

/** openat(2) of one name, never through a link. Returns a descriptor. */
export function openAt(folder: number, name: string, flags: number, mode = 0): number {
  return withName('openat', folder, name, flags | O.NOFOLLOW | O.CLOEXEC, mode);
}

export const mkdirAt = (folder: number, name: string, mode: number): number => withName('mkdirat', folder, name, mode);

/** mknodat(2): `mode` with the type, S_IFIFO or S_IFCHR; the device number is 0. */
export const mknodAt = (folder: number, name: string, mode: number): number =>
  withName('mknodat', folder, name, mode, 0);

/** unlinkat(2); `flags`: AT.REMOVEDIR for an empty folder. */
export const unlinkAt = (folder: number, name: string, flags = 0): number => withName('unlinkat', folder, name, flags);

/** Of the name itself, should it be a link. */
export const chownAt = (folder: number, name: string, uid: number, gid: number): number =>
  withName('fchownat', folder, name, uid, gid, AT.SYMLINK_NOFOLLOW);

export function symlinkAt(target: string, folder: number, name: string): number {
  const failed = place(target, 'first') || place(name, 'second');
  return failed !== 0 ? failed : trySyscall('symlinkat', addresses.first, folder, addresses.second);
}

/** readlinkat(2) of a symbolic link by an O_PATH descriptor of its own. Returns its text, or -errno. */
export function readLink(link: number): string | number {
  place('', 'first');
  const length = trySyscall('readlinkat', link, addresses.first, addresses.value, pathMax);
  return length < 0 ? length : memory.bytes.toString('latin1', layout.value, layout.value + length);
}

/** linkat(2); a symbolic link gets another name itself. */
export const linkAt = (fromFolder: number, from: string, folder: number, name: string): number =>
  twoNames('linkat', fromFolder, from, folder, name, 0);

export const renameAt = (fromFolder: number, from: string, folder: number, name: string): number =>
  twoNames('renameat', fromFolder, from, folder, name);

function twoNames(
  call: SyscallName,
  fromFolder: number,
  from: string,
  folder: number,
  name: string,
  ...rest: number[]
): number {
  const failed = place(from, 'first') || place(name, 'second');
  return failed !== 0 ? failed : trySyscall(call, fromFolder, addresses.first, folder, addresses.second, ...rest);
}

/** Times of access and of change as struct timespec. */
function placeTimes(seconds: number, nanoseconds: number): void {
  for (const offset of [0, 16]) {
    memory.bytes.writeBigInt64LE(BigInt(seconds), layout.times + offset);
    memory.bytes.writeBigInt64LE(BigInt(nanoseconds), layout.times + offset + 8);
  }
}

/** futimens(3), both times. */
export function setTimes(fd: number, seconds: number, nanoseconds: number): number {
  placeTimes(seconds, nanoseconds);
  return trySyscall('utimensat', fd, 0, addresses.times, 0);
}

/** utimensat(2), both times, of the name itself, should it be a link. */
export function setTimesAt(folder: number, name: string, seconds: number, nanoseconds: number): number {
  placeTimes(seconds, nanoseconds);
  return withName('utimensat', folder, name, addresses.times, AT.SYMLINK_NOFOLLOW);
}

/** fsetxattr(2), or lsetxattr(2) for a path. */
export function setAttribute(file: number | string, name: string, value: Uint8Array): number {
  if (value.length > valueMax) return -E2BIG;
  const failed = place(name, 'second') || (typeof file === 'string' ? place(file, 'first') : 0);
  if (failed !== 0) return failed;
  memory.bytes.set(value, layout.value);
  const rest = [addresses.second, addresses.value, value.length, 0];
  return typeof file === 'string'
    ? trySyscall('lsetxattr', addresses.first, ...rest)
    : trySyscall('fsetxattr', file, ...rest);
}

/** lseek(2): where the next piece of content begins at or behind `offset`, or the next hole. -ENXIO: nowhere. */
export const seekTo = (what: 'data' | 'hole', fd: number, offset: number): number =>
  trySyscall('lseek', fd, offset, what === 'data' ? 3 : 4);

/** syncfs(2): all that was written to the file system of `fd`. @throws TSV_SYSCALL */
export function syncFileSystem(fd: number): void {
  const result = trySyscall('syncfs', fd);
  if (result < 0) throw syscallError('syncfs', 'writing to the disk', -result);
}
