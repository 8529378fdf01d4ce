import { syscallError, trySyscall, withCString } from './libc.ts';

/** Lets a pipe hold so much; a power of two, at most /proc/sys/fs/pipe-max-size. Without effect where that is not allowed. */
export function enlargePipe(fd: number, bytes: number): void {
  const F_SETPIPE_SZ = 1031;
  trySyscall('fcntl', fd, F_SETPIPE_SZ, bytes);
}

/** mkfifo(3). @throws TSV_SYSCALL */
export function makeFifo(path: string, mode: number): void {
  const [AT_FDCWD, S_IFIFO] = [-100, 0o010000];
  const result = withCString(path, (address) => trySyscall('mknodat', AT_FDCWD, address, S_IFIFO | mode, 0));
  if (result < 0) throw syscallError('mknodat', `making ${path}`, -result);
}
