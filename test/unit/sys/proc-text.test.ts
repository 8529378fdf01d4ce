import { describe, expect, test } from 'vitest';
import {
  commandLine,
  idInside,
  parseIo,
  parseNetDev,
  parseStat,
  parseStatus,
  totalMemory,
  variableOf,
} from '../../../src/sys/proc-text.ts';

describe('/proc/PID/stat', () => {
  test('is counted from behind the name, whatever that holds', () => {
    const line =
      '14253 (a (b) S 1) R 14251 14251 17443 0 -1 4194304 102 0 0 0 250 31 7 5 20 0 3 0 5024990 3133440 374 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 1 1 1 1 1 1 1 0\n';
    expect(parseStat(line)).toEqual({
      state: 'R',
      parent: 14251,
      ticks: 281,
      childTicks: 12,
      threads: 3,
      startTicks: 5024990,
      residentBytes: 374 * 4096,
    });
  });

  test('of a process that is gone is nothing', () => {
    expect(parseStat('')).toBeUndefined();
  });
});

test('/proc/PID/status says who a process is, and its number in each namespace', () => {
  const text = 'Name:\tsh\nUid:\t1001\t100999\t1001\t1001\nGid:\t0\t0\t0\t0\nNSpid:\t4711\t12\t1\nNSpgid:\t9\t9\t9\n';
  expect(parseStatus(text)).toEqual({ uid: 100999, pids: [4711, 12, 1] });
  expect(parseStatus('')).toEqual({ uid: 0, pids: [] });
});

test('/proc/PID/net/dev has what was received and sent by each interface', () => {
  const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 198569200868 10940561    0    0    0     0          0         0 198569200868 10940561    0    0    0     0       0          0
  eth0:12795393521  323584    0    0    0     0          0         0 19796312  197491    0    0    0     0       0          0
`;
  expect(parseNetDev(text).get('eth0')).toEqual({ receivedBytes: 12795393521, sentBytes: 19796312 });
  expect([...parseNetDev(text).keys()]).toEqual(['lo', 'eth0']);
});

test('/proc/PID/io counts what went to storage and was not taken back', () => {
  const text =
    'rchar: 7279\nwchar: 303\nsyscr: 12\nsyscw: 1\nread_bytes: 8192\nwrite_bytes: 12288\ncancelled_write_bytes: 4096\n';
  expect(parseIo(text)).toEqual({ readBytes: 8192, writtenBytes: 8192 });
  expect(parseIo('')).toEqual({ readBytes: 0, writtenBytes: 0 });
});

test('a map of user ids gives the id inside, or says that there is none', () => {
  const map = '         0       1000          1\n         1     100000      65535\n';
  expect([1000, 100000, 100032, 165535, 1001].map((id) => idInside(map, id))).toEqual([0, 1, 33, undefined, undefined]);
  expect(idInside(map, 165534)).toBe(65535);
});

describe('an environment', () => {
  test('has the first and the last variable as well', () => {
    const text = 'TSV_ID=tsv:shop\0PATH=/bin\0TSV_DIR=/home/u/a b=c\0';
    expect(variableOf(text, 'TSV_ID')).toBe('tsv:shop');
    expect(variableOf(text, 'TSV_DIR')).toBe('/home/u/a b=c');
    expect(variableOf('A=\0', 'A')).toBe('');
  });

  test('does not have a variable whose name only ends or begins so', () => {
    expect(variableOf('XTSV_ID=1\0TSV_IDS=2\0X=TSV_ID=3\0', 'TSV_ID')).toBeUndefined();
  });
});

test('a command line is one line, and the memory of the host is in kB', () => {
  expect(commandLine('sh\0-c\0sleep 1\0')).toBe('sh -c sleep 1');
  expect(totalMemory('MemTotal:       24684084 kB\nMemFree: 1 kB\n')).toBe(24684084 * 1024);
});
