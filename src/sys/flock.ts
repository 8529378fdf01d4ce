import { syscall, trySyscall } from './libc.ts';

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/** flock(2): waits until nobody else holds the file. The kernel gives it back when the descriptor's last copy closes. */
export function lockExclusive(fd: number): void {
  syscall('flock', 'waiting for a lock', fd, LOCK_EX);
}

/** flock(2) without waiting. false: somebody holds it. */
export function tryLockExclusive(fd: number): boolean {
  return trySyscall('flock', fd, LOCK_EX | LOCK_NB) === 0;
}

/** The same together with others who share it. false: somebody holds it alone. */
export function tryLockShared(fd: number): boolean {
  return trySyscall('flock', fd, LOCK_SH | LOCK_NB) === 0;
}
