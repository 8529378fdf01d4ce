import { describe, expect, test } from 'vitest';
import type { Setting } from '../../../src/cgroup/setting.ts';
import { ignoredFields, settings, swapBeyondMemory, weightOfShares } from '../../../src/cgroup/settings.ts';
import { ioWeight } from '../../../src/cgroup/settings-io.ts';
import type { OciResources } from '../../../src/oci/spec.ts';

const print = (setting: Setting): string => {
  if ('impossible' in setting) return `${setting.field}: ${setting.impossible}`;
  return setting.writes
    .map(({ file, value }) => `${file} = ${typeof value === 'string' ? value : value('50000 100000')}`)
    .join(' | ');
};
const on = (version: 1 | 2, resources: OciResources): string[] => settings(resources, () => version).map(print);

describe.each<[string, OciResources, string[], string[]]>([
  ['nothing', {}, [], []],
  [
    'members without a value',
    { memory: {}, cpu: {}, pids: {}, blockIO: {}, hugepageLimits: [], network: {}, rdma: {} },
    [],
    [],
  ],
  [
    'zero, which is "not set"',
    {
      memory: { limit: 0, swap: 0, reservation: 0, disableOOMKiller: false },
      cpu: { shares: 0, quota: 0, period: 0, realtimePeriod: 0, realtimeRuntime: 0, cpus: '', mems: '' },
      pids: { limit: 0 },
      blockIO: { weight: 0, leafWeight: 0 },
      network: { classID: 0, priorities: [] },
    },
    [],
    [],
  ],
  [
    'memory, swap and reservation',
    { memory: { limit: 1 << 28, swap: 3 << 27, reservation: 1 << 27 } },
    [
      'memory.limit_in_bytes = 268435456',
      'memory.memsw.limit_in_bytes = 402653184',
      'memory.soft_limit_in_bytes = 134217728',
    ],
    ['memory.swap.max = 134217728', 'memory.max = 268435456', 'memory.low = 134217728'],
  ],
  [
    'memory without any swap',
    { memory: { limit: 4096, swap: 4096 } },
    ['memory.limit_in_bytes = 4096', 'memory.memsw.limit_in_bytes = 4096'],
    ['memory.swap.max = 0', 'memory.max = 4096'],
  ],
  [
    'the buffers of TCP, which v1 alone limits',
    { memory: { kernelTCP: 4096 } },
    ['memory.kmem.tcp.limit_in_bytes = 4096'],
    [],
  ],
  [
    'no limit on memory, which means swap too',
    { memory: { limit: -1 } },
    ['memory.limit_in_bytes = -1', 'memory.memsw.limit_in_bytes = -1'],
    ['memory.swap.max = max', 'memory.max = max'],
  ],
  [
    'numbers beyond 64 bits, which JSON brings',
    { memory: { limit: 2 ** 64 }, hugepageLimits: [{ pageSize: '2MB', limit: 2 ** 64 }] },
    [
      'memory.limit_in_bytes = 9223372036854775807',
      'hugetlb.2MB.limit_in_bytes = 18446744073709551615',
      'hugetlb.2MB.rsvd.limit_in_bytes = 18446744073709551615',
    ],
    [
      'memory.max = 9223372036854775807',
      'hugetlb.2MB.max = 9223372036854775807',
      'hugetlb.2MB.rsvd.max = 9223372036854775807',
    ],
  ],
  [
    'swappiness and the OOM killer',
    { memory: { swappiness: 0, disableOOMKiller: true } },
    ['memory.oom_control = 1', 'memory.swappiness = 0'],
    [
      'linux.resources.memory.swappiness: cgroup v2 has no swappiness',
      'linux.resources.memory.disableOOMKiller: cgroup v2 cannot turn the OOM killer off',
    ],
  ],
  [
    'cpu time',
    { cpu: { shares: 1024, quota: 50_000, period: 200_000, burst: 1000 } },
    ['cpu.shares = 1024', 'cpu.cfs_burst_us = 1000', 'cpu.cfs_period_us = 200000', 'cpu.cfs_quota_us = 50000'],
    ['cpu.weight = 39', 'cpu.max.burst = 1000', 'cpu.max = 50000 200000'],
  ],
  ['no limit on cpu time', { cpu: { quota: -1 } }, ['cpu.cfs_quota_us = -1'], ['cpu.max = max']],
  [
    'a period alone, with which the quota stays',
    { cpu: { period: 200_000 } },
    ['cpu.cfs_period_us = 200000'],
    ['cpu.max = 50000 200000'],
  ],
  ['an idle cgroup, which has no weight', { cpu: { idle: 1, shares: 512 } }, ['cpu.idle = 1'], ['cpu.idle = 1']],
  [
    'realtime scheduling',
    { cpu: { realtimePeriod: 1_000_000, realtimeRuntime: 950_000 } },
    ['cpu.rt_period_us = 1000000', 'cpu.rt_runtime_us = 950000'],
    [
      'linux.resources.cpu.realtimePeriod: cgroup v2 has no shares of realtime scheduling',
      'linux.resources.cpu.realtimeRuntime: cgroup v2 has no shares of realtime scheduling',
    ],
  ],
  [
    'processors and memory nodes',
    { cpu: { cpus: '0-1,3', mems: '0' } },
    ['cpuset.cpus = 0-1,3', 'cpuset.mems = 0'],
    ['cpuset.cpus = 0-1,3', 'cpuset.mems = 0'],
  ],
  ['a number of processes', { pids: { limit: 32 } }, ['pids.max = 32'], ['pids.max = 32']],
  ['any number of processes', { pids: { limit: -1 } }, ['pids.max = max'], ['pids.max = max']],
  ['more processes than there can be', { pids: { limit: 1e10 } }, ['pids.max = max'], ['pids.max = max']],
  [
    'block devices',
    {
      blockIO: {
        weight: 500,
        weightDevice: [{ major: 8, minor: 0, weight: 10 }],
        throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 600 }],
        throttleWriteBpsDevice: [{ major: 8, minor: 0, rate: 0 }],
        throttleReadIOPSDevice: [{ major: 8, minor: 16, rate: 5 }],
        throttleWriteIOPSDevice: [{ major: 8, minor: 16, rate: 6 }],
      },
    },
    [
      'blkio.weight = 500 | blkio.bfq.weight = 500',
      'blkio.weight_device = 8:0 10 | blkio.bfq.weight_device = 8:0 10',
      'blkio.throttle.read_bps_device = 8:0 600',
      'blkio.throttle.write_bps_device = 8:0 0',
      'blkio.throttle.read_iops_device = 8:16 5',
      'blkio.throttle.write_iops_device = 8:16 6',
    ],
    [
      'io.bfq.weight = 500 | io.weight = 4950',
      'io.bfq.weight = 8:0 10 | io.weight = 8:0 1',
      'io.max = 8:0 rbps=600',
      'io.max = 8:0 wbps=max',
      'io.max = 8:16 riops=5',
      'io.max = 8:16 wiops=6',
    ],
  ],
  [
    'leaf weights',
    { blockIO: { leafWeight: 20, weightDevice: [{ major: 8, minor: 0, leafWeight: 30 }] } },
    [
      'blkio.leaf_weight = 20 | blkio.bfq.leaf_weight = 20',
      'blkio.leaf_weight_device = 8:0 30 | blkio.bfq.leaf_weight_device = 8:0 30',
    ],
    [
      'linux.resources.blockIO.leafWeight: cgroup v2 has no leaf weights',
      'linux.resources.blockIO.weightDevice[0].leafWeight: cgroup v2 has no leaf weights',
    ],
  ],
  [
    'a page size that is a path',
    { hugepageLimits: [{ pageSize: '../2MB', limit: 0 }] },
    ["linux.resources.hugepageLimits[0]: '../2MB' is no page size such as 2MB"],
    ["linux.resources.hugepageLimits[0]: '../2MB' is no page size such as 2MB"],
  ],
  [
    'RDMA devices',
    { rdma: { mlx5_0: { hcaHandles: 2, hcaObjects: 2000 }, ocrdma1: { hcaObjects: 3 } } },
    ['rdma.max = mlx5_0 hca_handle=2 hca_object=2000', 'rdma.max = ocrdma1 hca_object=3'],
    ['rdma.max = mlx5_0 hca_handle=2 hca_object=2000', 'rdma.max = ocrdma1 hca_object=3'],
  ],
])('the settings for %s', (_, resources, v1, v2) => {
  test('on v1', () => expect(on(1, resources)).toEqual(v1));
  test('on v2', () => expect(on(2, resources)).toEqual(v2));
});

test('network classes and priorities are those of v1', () => {
  const network = { classID: 0x10_0001, priorities: [{ name: 'eth0', priority: 5 }] };
  expect(on(1, { network })).toEqual(['net_cls.classid = 1048577', 'net_prio.ifpriomap = eth0 5']);
});

test('what a missing controller is asked for is named, each once', () => {
  const lost = settings(
    {
      memory: { limit: -1, swappiness: 5 },
      cpu: { cpus: '0', quota: 5000, burst: 0 },
      hugepageLimits: [{ pageSize: '2MB', limit: 0 }],
      network: { classID: 1 },
    },
    (controller) => ({ reason: `no ${controller}` }),
  );
  expect(lost.map(print)).toEqual([
    'linux.resources.cpu.cpus: no cpuset',
    'linux.resources.memory.limit: no memory',
    'linux.resources.memory.swappiness: no memory',
    'linux.resources.cpu.quota: no cpu',
    'linux.resources.hugepageLimits[0]: no hugetlb',
    'linux.resources.network.classID: no net_cls',
  ]);
});

test('swap of v2 is what goes beyond memory', () => {
  expect(swapBeyondMemory(3000, 1000)).toBe('2000');
  expect(swapBeyondMemory(1000, 1000)).toBe('0');
  expect(swapBeyondMemory(-1, 1000)).toBe('max');
  expect(swapBeyondMemory(999, 1000)).toMatchObject({ reason: expect.stringContaining('cannot be less than memory') });
  expect(swapBeyondMemory(1000, undefined)).toMatchObject({ reason: expect.stringContaining('needs memory.limit') });
  expect(swapBeyondMemory(1000, -1)).toMatchObject({ reason: expect.stringContaining('needs memory.limit') });
});

test('shares and weights are converted from end to end', () => {
  expect([0, 2, 1024, 262_144, 1e9].map(weightOfShares)).toEqual([1, 1, 39, 10_000, 10_000]);
  expect([1, 10, 100, 500, 1000, 5000].map(ioWeight)).toEqual([1, 1, 910, 4950, 10_000, 10_000]);
});

test('what means nothing today is said', () => {
  expect(ignoredFields({})).toEqual([]);
  expect(
    ignoredFields({ memory: { kernel: 1, kernelTCP: 1, useHierarchy: false }, cpu: { idle: 1, shares: 2 } }),
  ).toEqual([
    expect.stringContaining('memory.kernel is ignored'),
    expect.stringContaining('memory.kernelTCP is ignored'),
    expect.stringContaining('memory.useHierarchy is ignored'),
    expect.stringContaining('cpu.shares is ignored'),
  ]);
  expect(ignoredFields({ memory: { kernelTCP: 1 } }, true)).toEqual([]);
});
