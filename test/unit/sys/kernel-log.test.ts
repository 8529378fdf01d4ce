import { expect, test } from 'vitest';
import { tellsOfStarved } from '../../../src/sys/kernel-log.ts';

const log = [
  '6,1,900000,-;tun: Universal TUN/TAP device driver, 1.6\n',
  '3,2,5000000,-;Out of memory: Killed process 4711 (qemu-system-x86) total-vm:9kB, anon-rss:8kB\n SUBSYSTEM=x\n',
  '3,3,7000000,-;Memory cgroup out of memory: Killed process 12 (tail) total-vm:9kB\n',
  '6,4,8000000,-;someone wrote: Killed process 99 by hand\n',
];

// A clock tick is 10 ms.
test.each<[number, number, boolean]>([
  [4711, 100, true],
  [12, 100, true],
  [471, 100, false],
  [99, 100, false],
  [4711, 600, false],
])('that process %i, begun at %i ticks, was killed for memory: %s', (pid, start, expected) => {
  expect(tellsOfStarved(log, { pid, startTime: String(start) })).toBe(expected);
});
