import { syscallError, trySyscall, withCString } from './libc.ts';

/** mkfifo(3). @throws TSV_SYSCALL */
export function makeFifo(path: string, mode: number): void {
  const [AT_FDCWD, S_IFIFO] = [-100, 0o010000];
  const result = withCString(path, (address) => trySyscall('mknodat', AT_FDCWD, address, S_IFIFO | mode, 0));
  if (result < 0) throw syscallError('mknodat', `making ${path}`, -result);
}
