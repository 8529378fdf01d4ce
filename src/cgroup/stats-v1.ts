import { type Count, nonZero, parseList, type Reader } from './counts.ts';
import type { BlkioEntry, BlkioTable, CgroupStats, MemoryEntry } from './stats.ts';

/** What the v1 hierarchies have (kernel: admin-guide/cgroup-v1). `at` opens the folder of a controller. */
export function statsV1(at: (controller: string) => Reader | undefined): Partial<CgroupStats> {
  return { ...cpu(at), ...cpuset(at('cpuset')), ...memory(at('memory')), ...pids(at), ...blkio(at), ...hugetlb(at) };
}

type At = (controller: string) => Reader | undefined;

function cpu(at: At): Partial<CgroupStats> {
  const account = at('cpuacct');
  const scheduler = at('cpu');
  if (account === undefined && scheduler === undefined) return {};
  const ticks = account?.table('cpuacct.stat') ?? {};
  const perCpu = account?.text('cpuacct.usage_all')?.split('\n').slice(1) ?? [];
  const column = (index: number) => perCpu.map((line) => Number(line.split(' ')[index]));
  const throttled = scheduler?.table('cpu.stat') ?? {};
  return {
    cpu: {
      usage: {
        ...nonZero({
          total: account?.count('cpuacct.usage') ?? 0,
          percpu: (account?.text('cpuacct.usage_percpu') ?? '').split(' ').filter(Boolean).map(Number),
          percpu_kernel: column(2),
          percpu_user: column(1),
        }),
        kernel: nanoseconds(ticks.system),
        user: nanoseconds(ticks.user),
      },
      throttling: nonZero({
        periods: throttled.nr_periods ?? 0,
        throttledPeriods: throttled.nr_throttled ?? 0,
        throttledTime: throttled.throttled_time ?? 0,
      }),
    },
  };
}

/** Of ticks, of which user space always sees 100 in a second (USER_HZ). */
const nanoseconds = (ticks: Count = 0): Count => Number(ticks) * 10_000_000;

function cpuset(read: Reader | undefined): Partial<CgroupStats> {
  if (read === undefined) return {};
  const flag = (name: string) => read.count(`cpuset.${name}`) ?? 0;
  return {
    cpuset: {
      ...nonZero({ cpus: parseList(read.text('cpuset.cpus')) }),
      cpu_exclusive: flag('cpu_exclusive'),
      ...nonZero({ mems: parseList(read.text('cpuset.mems')) }),
      mem_hardwall: flag('mem_hardwall'),
      mem_exclusive: flag('mem_exclusive'),
      memory_migrate: flag('memory_migrate'),
      memory_spread_page: flag('memory_spread_page'),
      memory_spread_slab: flag('memory_spread_slab'),
      memory_pressure: flag('memory_pressure'),
      sched_load_balance: flag('sched_load_balance'),
      sched_relax_domain_level: flag('sched_relax_domain_level'),
    },
  };
}

function memory(read: Reader | undefined): Partial<CgroupStats> {
  const raw = read?.table('memory.stat');
  if (read === undefined || raw === undefined) return {};
  const entry = (name: string): MemoryEntry => ({
    limit: read.count(`${name}.limit_in_bytes`) ?? 0,
    ...nonZero({
      usage: read.count(`${name}.usage_in_bytes`) ?? 0,
      max: read.count(`${name}.max_usage_in_bytes`) ?? 0,
    }),
    failcnt: read.count(`${name}.failcnt`) ?? 0,
  });
  return {
    memory: {
      ...nonZero({ cache: raw.cache ?? 0 }),
      usage: entry('memory'),
      swap: entry('memory.memsw'),
      kernel: entry('memory.kmem'),
      kernelTCP: entry('memory.kmem.tcp'),
      raw,
    },
  };
}

function pids(at: At): Partial<CgroupStats> {
  const read = at('pids');
  const current = read?.count('pids.current');
  if (read === undefined || current === undefined) return {};
  const limit = read.text('pids.max') === 'max' ? 0 : read.count('pids.max');
  return { pids: nonZero({ current, limit: limit ?? 0 }) };
}

/** Which files there are depends on the scheduler and its debugging; the throttle's are always there. */
const blkioFiles: readonly (readonly [prefix: string, files: Readonly<Record<string, BlkioTable>>])[] = [
  [
    'blkio.bfq.',
    {
      sectors_recursive: 'sectorsRecursive',
      io_service_time_recursive: 'ioServiceTimeRecursive',
      io_wait_time_recursive: 'ioWaitTimeRecursive',
      io_merged_recursive: 'ioMergedRecursive',
      io_queued_recursive: 'ioQueueRecursive',
      time_recursive: 'ioTimeRecursive',
      io_serviced_recursive: 'ioServicedRecursive',
      io_service_bytes_recursive: 'ioServiceBytesRecursive',
    },
  ],
  [
    'blkio.throttle.',
    {
      io_serviced_recursive: 'ioServicedRecursive',
      io_service_bytes_recursive: 'ioServiceBytesRecursive',
      io_serviced: 'ioServicedRecursive',
      io_service_bytes: 'ioServiceBytesRecursive',
    },
  ],
];

function blkio(at: At): Partial<CgroupStats> {
  const read = at('blkio');
  if (read === undefined) return {};
  const tables: Partial<Record<BlkioTable, BlkioEntry[]>> = {};
  for (const [prefix, files] of blkioFiles) {
    for (const [file, table] of Object.entries(files)) {
      if (tables[table] !== undefined && tables[table].length > 0) continue;
      const text = read.text(`${prefix}${file}`);
      if (text !== undefined) tables[table] = parseBlkio(text);
    }
  }
  return { blkio: nonZero(tables) };
}

/** Lines such as `8:0 Read 4096` or `8:0 4096`; the line of all devices has no device. */
function parseBlkio(text: string): BlkioEntry[] {
  return text.split('\n').flatMap((line) => {
    const [device = '', ...rest] = line.split(' ');
    const [major, minor] = device.split(':').map(Number);
    if (minor === undefined || major === undefined) return [];
    const value = Number(rest.at(-1));
    return [nonZero({ major, minor, op: rest.length > 1 ? rest[0] : undefined, value })];
  }) as BlkioEntry[];
}

function hugetlb(at: At): Partial<CgroupStats> {
  const read = at('hugetlb');
  if (read === undefined) return {};
  const sizes = read.pageSizes().flatMap((size) => {
    const usage = read.count(`hugetlb.${size}.usage_in_bytes`);
    if (usage === undefined) return [];
    const max = read.count(`hugetlb.${size}.max_usage_in_bytes`) ?? 0;
    return [[size, { ...nonZero({ usage, max }), failcnt: read.count(`hugetlb.${size}.failcnt`) ?? 0 }] as const];
  });
  return { hugetlb: Object.fromEntries(sizes) };
}
