import { closeSync, constants, openSync, readSync } from 'node:fs';
import type { ProcessRef } from '../model/state.ts';
import { ticksPerSecond } from './proc-text.ts';

/** A record is at most so long (Documentation/ABI/testing/dev-kmsg). */
const recordBytes = 8 << 10;

/**
 * Whether the kernel says that it has killed this process for want of memory, its cgroup's or the host's. It tells root, and
 * others only where kernel.dmesg_restrict is 0; who may not know hears no.
 */
export function wasStarved(process: ProcessRef): boolean {
  let fd: number | undefined;
  try {
    fd = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK);
    return tellsOfStarved(records(fd), process);
  } catch {
    return false;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Pure. `6,339,5140900,-;text`: the third is microseconds since boot. A process of the same number before this one does not count. */
export function tellsOfStarved(
  log: Iterable<string>,
  { pid, startTime }: Pick<ProcessRef, 'pid' | 'startTime'>,
): boolean {
  const since = (Number(startTime) / ticksPerSecond) * 1e6;
  for (const record of log) {
    const [head = '', text = ''] = record.split(';', 2);
    const killed = /\bKilled process (\d+) \(/.exec(text);
    if (killed !== null && Number(killed[1]) === pid && Number(head.split(',')[2]) >= since) return true;
  }
  return false;
}

/** Each read gives one record; what was overwritten meanwhile is told by EPIPE, and the next read goes on. */
function* records(fd: number): Generator<string> {
  const buffer = Buffer.alloc(recordBytes);
  for (;;) {
    try {
      const length = readSync(fd, buffer, 0, buffer.length, null);
      if (length === 0) return;
      yield buffer.toString('latin1', 0, length);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN') return;
      if (code !== 'EPIPE') throw error;
    }
  }
}
