import { type Count, nonZero, type Reader } from './counts.ts';
import type { BlkioEntry, CgroupStats, MemoryEntry } from './stats.ts';

/** The files of cgroup v2 (kernel: admin-guide/cgroup-v2.rst) in the names and units of v1, as runc shows them. */
export function statsV2(read: Reader): Partial<CgroupStats> {
  return { ...cpu(read), ...memory(read), ...pids(read), ...io(read), ...hugetlb(read) };
}

function cpu(read: Reader): Partial<CgroupStats> {
  const table = read.table('cpu.stat');
  if (table === undefined) return {};
  const nanoseconds = (key: string) => times1000(table[key] ?? 0);
  const total = { total: nanoseconds('usage_usec') };
  const kernel = nanoseconds('system_usec');
  const user = nanoseconds('user_usec');
  return {
    cpu: {
      usage: { ...nonZero(total), kernel, user },
      throttling: nonZero({
        periods: table.nr_periods ?? 0,
        throttledPeriods: table.nr_throttled ?? 0,
        throttledTime: nanoseconds('throttled_usec'),
      }),
    },
  };
}

const times1000 = (count: Count): Count => normal(BigInt(count) * 1000n);
const normal = (count: bigint): Count => (count <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(count) : count);

function memory(read: Reader): Partial<CgroupStats> {
  const raw = read.table('memory.stat');
  if (raw === undefined) return {};
  const usage = entry(read, 'memory');
  const swap = entry(read, 'memory.swap');
  // v1 counts swap together with memory.
  const most = 2n ** 64n - 1n;
  const sum = (a: Count = 0, b: Count = 0): Count => normal(BigInt(a) + BigInt(b));
  const isLimited = swap.limit !== most && usage.limit !== most;
  const both: MemoryEntry = {
    limit: swap.limit === 0 ? 0 : isLimited ? sum(swap.limit, usage.limit) : most,
    ...nonZero({ usage: sum(swap.usage, usage.usage) }),
    failcnt: 0,
  };
  const none: MemoryEntry = { limit: 0, failcnt: 0 };
  return {
    memory: { ...nonZero({ cache: raw.file ?? 0 }), usage, swap: both, kernel: none, kernelTCP: none, raw },
  };
}

function entry(read: Reader, name: string): MemoryEntry {
  const max = read.count(`${name}.peak`) ?? 0;
  const usage = read.count(`${name}.current`) ?? 0;
  return { limit: read.count(`${name}.max`) ?? 0, ...nonZero({ usage, max }), failcnt: 0 };
}

function pids(read: Reader): Partial<CgroupStats> {
  const current = read.count('pids.current');
  if (current === undefined) return {};
  const limit = read.text('pids.max') === 'max' ? 0 : read.count('pids.max');
  return { pids: nonZero({ current, limit: limit ?? 0 }) };
}

/** Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`. */
function io(read: Reader): Partial<CgroupStats> {
  const text = read.text('io.stat');
  if (text === undefined) return {};
  const bytes: BlkioEntry[] = [];
  const operations: BlkioEntry[] = [];
  for (const line of text.split('\n')) {
    const [device = '', ...items] = line.split(' ');
    const [major, minor] = device.split(':').map(Number);
    for (const item of items) {
      const [key = '', value = ''] = item.split('=');
      const kind = /^([rwd])(bytes|ios)$/.exec(key);
      if (kind === null) continue;
      const name = { r: 'Read', w: 'Write', d: 'Discard' }[kind[1] ?? ''];
      const counted = nonZero({ major: major ?? 0, minor: minor ?? 0, op: name ?? '', value: Number(value) });
      (kind[2] === 'bytes' ? bytes : operations).push(counted);
    }
  }
  return { blkio: nonZero({ ioServiceBytesRecursive: bytes, ioServicedRecursive: operations }) };
}

function hugetlb(read: Reader): Partial<CgroupStats> {
  const sizes = read.pageSizes().flatMap((size) => {
    const usage = read.count(`hugetlb.${size}.current`);
    if (usage === undefined) return [];
    const failcnt = read.table(`hugetlb.${size}.events`)?.max ?? 0;
    return [[size, { ...nonZero({ usage }), failcnt }] as const];
  });
  return sizes.length === 0 ? {} : { hugetlb: Object.fromEntries(sizes) };
}
