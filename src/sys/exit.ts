import { trySyscall } from './libc.ts';

/**
 * Ends the process at once: exit_group(2). What is written has been written by then, since it goes out by write(2). Node's
 * own way takes everything apart first, and koffi's polls cannot stand that.
 */
export function exitAtOnce(code: number): never {
  trySyscall('exit_group', code);
  throw new Error('unreachable');
}
