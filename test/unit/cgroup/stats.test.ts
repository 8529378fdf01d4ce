import { describe, expect, test } from 'vitest';
import { parseList } from '../../../src/cgroup/counts.ts';

import { watchOom } from '../../../src/cgroup/oom.ts';
import type { Cgroup } from '../../../src/cgroup/place.ts';
import { oomKills, stats, statsJson } from '../../../src/cgroup/stats.ts';
import { FakeKernel } from './kernel.ts';

const cgroupOf = (version: 1 | 2, ...controllers: string[]): Cgroup => ({
  explicit: false,
  members: (version === 1 ? controllers : ['v2']).map((name) => ({
    version,
    name,
    controllers: version === 1 ? [name] : controllers,
    mountPoint: `/c/${name}`,
    base: `/c/${name}`,
    folder: `/c/${name}`,
  })),
});
const none = { limit: 0, failcnt: 0 };

describe('statistics', () => {
  test('of nothing are zeros and empty tables, in the shape of runc events', () => {
    expect(stats(cgroupOf(1), new FakeKernel())).toMatchObject({
      cpu: { usage: { kernel: 0, user: 0 }, throttling: {} },
      memory: { usage: none, swap: none, kernel: none, kernelTCP: none },
      pids: {},
      blkio: {},
      hugetlb: {},
      intel_rdt: {},
      network_interfaces: null,
    });
  });

  test('of v1 come from its many files', () => {
    const kernel = new FakeKernel();
    const files: Record<string, string> = {
      'cpuacct/cpuacct.usage': '8369930',
      'cpuacct/cpuacct.stat': 'user 3\nsystem 2',
      'cpuacct/cpuacct.usage_percpu': '1539179 6830751 ',
      'cpuacct/cpuacct.usage_all': 'cpu user system\n0 1 2\n1 3 4',
      'cpu/cpu.stat': 'nr_periods 5\nnr_throttled 2\nthrottled_time 70',
      'cpuset/cpuset.cpus': '0-1',
      'cpuset/cpuset.mems': '0',
      'cpuset/cpuset.sched_load_balance': '1',
      'cpuset/cpuset.sched_relax_domain_level': '-1',
      'memory/memory.stat': 'cache 12\nhierarchical_memory_limit 9223372036854771712',
      'memory/memory.limit_in_bytes': '9223372036854771712',
      'memory/memory.usage_in_bytes': '100',
      'memory/memory.max_usage_in_bytes': '200',
      'memory/memory.failcnt': '3',
      'pids/pids.current': '2',
      'pids/pids.max': 'max',
      'blkio/blkio.bfq.io_serviced_recursive': 'Total 0',
      'blkio/blkio.throttle.io_serviced_recursive': '254:0 Read 5\n254:0 Write 0\nTotal 5',
      'blkio/blkio.throttle.io_service_bytes_recursive': '254:0 Read 4096\nTotal 4096',
    };
    for (const [file, text] of Object.entries(files)) kernel.file(`/c/${file}`, text);
    const seen = stats(cgroupOf(1, 'cpu', 'cpuacct', 'cpuset', 'memory', 'pids', 'blkio'), kernel);
    expect(seen.cpu).toEqual({
      usage: {
        total: 8369930,
        percpu: [1539179, 6830751],
        percpu_kernel: [2, 4],
        percpu_user: [1, 3],
        kernel: 20_000_000,
        user: 30_000_000,
      },
      throttling: { periods: 5, throttledPeriods: 2, throttledTime: 70 },
    });
    expect(seen.cpuset).toMatchObject({ cpus: [0, 1], mems: [0], sched_load_balance: 1, sched_relax_domain_level: -1 });
    expect(seen.memory).toMatchObject({ cache: 12, usage: { usage: 100, max: 200, failcnt: 3 }, swap: none });
    expect(seen.pids).toEqual({ current: 2 });
    expect(seen.blkio).toEqual({
      ioServicedRecursive: [
        { major: 254, op: 'Read', value: 5 },
        { major: 254, op: 'Write' },
      ],
      ioServiceBytesRecursive: [{ major: 254, op: 'Read', value: 4096 }],
    });
    expect(statsJson(seen), 'no digit is lost').toContain('"usage":{"limit":9223372036854771712,"usage":100');
  });

  test('of v2 are in the names and units of v1', () => {
    const kernel = new FakeKernel();
    const files: Record<string, string> = {
      'cpu.stat': 'usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 2\nnr_throttled 1\nthrottled_usec 9',
      'memory.stat': 'anon 5\nfile 6',
      'memory.current': '1000',
      'memory.max': '4000',
      'memory.peak': '3000',
      'memory.swap.current': '10',
      'memory.swap.max': 'max',
      'pids.current': '3',
      'pids.max': '20',
      'io.stat': '8:16 rbytes=4096 wbytes=1 rios=2 wios=3 dbytes=0 dios=0\n254:0 ',
      'hugetlb.2MB.current': '2097152',
      'hugetlb.2MB.events': 'max 4',
    };
    for (const [file, text] of Object.entries(files)) kernel.file(`/c/v2/${file}`, text);
    kernel.children = (folder) =>
      folder === '/sys/kernel/mm/hugepages' ? ['hugepages-2048kB', 'hugepages-1048576kB'] : [];
    const seen = stats(cgroupOf(2, 'memory'), kernel);
    expect(seen.cpu).toEqual({
      usage: { total: 7000, kernel: 3000, user: 4000 },
      throttling: { periods: 2, throttledPeriods: 1, throttledTime: 9000 },
    });
    expect(seen.memory).toEqual({
      cache: 6,
      usage: { limit: 4000, usage: 1000, max: 3000, failcnt: 0 },
      swap: { limit: 18446744073709551615n, usage: 1010, failcnt: 0 },
      kernel: none,
      kernelTCP: none,
      raw: { anon: 5, file: 6 },
    });
    expect(seen.pids).toEqual({ current: 3, limit: 20 });
    expect(seen.blkio.ioServiceBytesRecursive?.slice(0, 2)).toEqual([
      { major: 8, minor: 16, op: 'Read', value: 4096 },
      { major: 8, minor: 16, op: 'Write', value: 1 },
    ]);
    expect(seen.blkio.ioServicedRecursive).toHaveLength(3);
    expect(seen.hugetlb).toEqual({ '2MB': { usage: 2097152, failcnt: 4 } });
    expect(JSON.parse(statsJson(seen)).memory.raw).toEqual({ anon: 5, file: 6 });
  });

  test('of memory that ran out are counted below too in v1, and by the kernel in v2', () => {
    const kernel = new FakeKernel().hierarchy(1, '/c/memory', ['memory']);
    kernel.makeFolder('/c/memory/inner');
    kernel.file('/c/memory/memory.oom_control', 'oom_kill_disable 0\nunder_oom 0\noom_kill 2');
    kernel.file('/c/memory/inner/memory.oom_control', 'oom_kill 3').file('/c/v2/memory.events', 'oom 9\noom_kill 4');
    expect(oomKills(cgroupOf(1, 'memory'), kernel)).toBe(5);
    expect(oomKills(cgroupOf(2, 'memory'), kernel)).toBe(4);
    expect(oomKills(cgroupOf(1, 'pids'), kernel)).toBe(0);
  });
});

test('a list of processors is spelled out', () => {
  expect(parseList('0-2,7')).toEqual([0, 1, 2, 7]);
  expect(parseList('')).toEqual([]);
});

describe('a lack of memory', () => {
  test('in v2 is told when the kernel has killed once more, and not for what was before', () => {
    const events = '/c/v2/memory.events';
    const kernel = new FakeKernel().hierarchy(2, '/c/v2', ['memory']).file(events, 'oom 1\noom_kill 1');
    let told = 0;
    const watch = watchOom(cgroupOf(2, 'memory'), () => told++, kernel);
    kernel.file(events, 'oom 2\noom_kill 1');
    expect(told).toBe(0);
    kernel.file(events, 'oom 2\noom_kill 2');

    expect(told).toBe(1);
    kernel.file(events, 'oom 3\noom_kill 4');
    watch?.look();

    expect(told).toBe(2);
    watch?.stop();
    kernel.file(events, 'oom 9\noom_kill 9');
    expect(told).toBe(2);
  });

  test('is told by nobody where there is no memory controller', () => {
    const kernel = new FakeKernel().hierarchy(2, '/c/v2', ['pids']).hierarchy(1, '/c/pids', ['pids']);
    for (const cgroup of [cgroupOf(1, 'pids'), cgroupOf(2, 'pids'), { explicit: false, members: [] }])
      expect(watchOom(cgroup, () => {}, kernel)).toBeUndefined();
  });
});
