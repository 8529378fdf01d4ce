import { closeSync, fstatSync, openSync, writeSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { errnoName } from './errno.ts';
import { O, RESOLVE } from './flags.ts';
import { trySyscall, withBytes, withCString } from './libc.ts';

const PROC_SUPER_MAGIC = 0x9fa0n;
const PROC_ROOT_INO = 1;

/**
 * The root of this process's proc file system, as a descriptor that is proven to be that: fstatfs(2), and the inode that no
 * other file of it has.
 * @throws TSV_HOST_MISSING when something else is mounted at /proc
 */
export function openProc(): number {
  const fd = openSync('/proc', O.PATH | O.DIRECTORY | O.CLOEXEC);
  // struct statfs, 120 bytes; f_type comes first.
  const type = withBytes(new Uint8Array(120), (address, bytes) =>
    trySyscall('fstatfs', fd, address) < 0 ? 0n : bytes.readBigInt64LE(0),
  );
  if (type === PROC_SUPER_MAGIC && fstatSync(fd).ino === PROC_ROOT_INO) return fd;
  closeSync(fd);
  throw new TsvError('TSV_HOST_MISSING', '/proc is not the proc file system', {
    details: ['what was written there would reach another file'],
    hint: 'mount -t proc proc /proc',
  });
}

/** struct open_how of openat2(2) for writing to a file of {@link openProc}, over which nothing is mounted. */
export function procHow(): Buffer {
  const how = Buffer.alloc(24);
  how.writeBigUInt64LE(BigInt(O.WRONLY | O.CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(RESOLVE.BENEATH | RESOLVE.NO_XDEV | RESOLVE.NO_MAGICLINKS), 16);
  return how;
}

/**
 * Writes a file of proc(5), such as `123/uid_map`, and never one that was mounted over it or over /proc (CVE-2019-16884,
 * CVE-2025-52881).
 * @throws an Error with `code`, as node:fs does; TSV_HOST_MISSING
 */
export function writeProc(path: string, content: string): void {
  const root = openProc();
  try {
    const fd = withBytes(procHow(), (how) => withCString(path, (name) => trySyscall('openat2', root, name, how, 24)));
    if (fd < 0) {
      const code = errnoName(-fd);
      throw Object.assign(new Error(`/proc/${path}: ${code}`), { code });
    }
    try {
      writeSync(fd, content);
    } finally {
      closeSync(fd);
    }
  } finally {
    closeSync(root);
  }
}
