import { describe, expect, test } from 'vitest';
import { parsePs, userNames } from '../../../src/app/top.ts';
import { type Counters, usageBetween } from '../../../src/app/usage.ts';

const none = { network: { receivedBytes: 0, sentBytes: 0 }, disk: { readBytes: 0, writtenBytes: 0 } };
const source = { cpu: 'cgroup', memory: 'cgroup', disk: 'processes' } as const;
const counters = (atNs: bigint, cpuNs: number, more: Partial<Counters> = {}): Counters => ({
  atNs,
  cpuNs,
  memoryBytes: 16 << 20,
  memoryLimitBytes: 64 << 20,
  ...none,
  source,
  ...more,
});
const about = { time: '2026-01-01T00:00:00.000Z', machine: 'web', kind: 'container' } as const;

describe('what was used between two samples', () => {
  test('is the time of all CPUs by the time that went by', () => {
    const usage = usageBetween(counters(0n, 1e9), counters(500_000_000n, 1.75e9, { pids: 3 }), about);
    expect(usage).toEqual({
      ...about,
      cpuPercent: 150,
      memoryBytes: 16 << 20,
      memoryLimitBytes: 64 << 20,
      memoryPercent: 25,
      pids: 3,
      ...none,
      source,
    });
  });

  test('is never less than nothing: processes may have taken their time with them', () => {
    expect(usageBetween(counters(0n, 2e9), counters(1_000_000_000n, 1e9), about).cpuPercent).toBe(0);
    expect(usageBetween(counters(0n, 0), counters(0n, 5), about).cpuPercent).toBe(0);
  });
});

test('users have the names of the machine’s passwd file, whatever that is', () => {
  const names = userNames(
    'root:x:0:0::/root:/bin/sh\nwww:x:33:33::/:/bin/false\ntoor:x:0:0::/:\nbroken\n:x:5:5\nx:x:-1:1\n',
  );
  expect([...names].toSorted()).toEqual([
    [0, 'root'],
    [33, 'www'],
  ]);
});

test('the list of a virtual machine’s ps is read', () => {
  const text = `      1 root                              0.3 12160       2 /sbin/init
     14 root                              0.0     0       0 [rcu_sched]
    300 systemd-timesync                  1.5  6400      12 /usr/lib/systemd/systemd-timesyncd --x  y
`;
  expect(parsePs(text)).toEqual([
    { pid: 1, user: 'root', cpuPercent: 0.3, memoryBytes: 12160 * 1024, cpuSeconds: 2, command: '/sbin/init' },
    { pid: 14, user: 'root', cpuPercent: 0, memoryBytes: 0, cpuSeconds: 0, command: '[rcu_sched]' },
    {
      pid: 300,
      user: 'systemd-timesync',
      cpuPercent: 1.5,
      memoryBytes: 6400 * 1024,
      cpuSeconds: 12,
      command: '/usr/lib/systemd/systemd-timesyncd --x  y',
    },
  ]);
});
