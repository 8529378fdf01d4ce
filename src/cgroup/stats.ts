import { join } from 'node:path';
import { type Count, type Reader, reader } from './counts.ts';
import { type CgroupFiles, kernelFiles, readIfThere } from './files.ts';
import { type Cgroup, v1Member, v2Member } from './place.ts';
import { foldersBelow } from './processes.ts';
import { statsV1 } from './stats-v1.ts';
import { statsV2 } from './stats-v2.ts';
import { keyed } from './wait.ts';

export interface MemoryEntry {
  readonly limit: Count;
  readonly usage?: Count;
  readonly max?: Count;
  readonly failcnt: Count;
}

export interface BlkioEntry {
  readonly major?: Count;
  readonly minor?: Count;
  readonly op?: string;
  readonly value?: Count;
}

/** The `data` of what `runc events --stats` prints. Counters that are 0 are left out where runc leaves them out. */
export interface CgroupStats {
  readonly cpu: {
    readonly usage: {
      readonly total?: Count;
      readonly percpu?: readonly Count[];
      readonly percpu_kernel?: readonly Count[];
      readonly percpu_user?: readonly Count[];
      readonly kernel: Count;
      readonly user: Count;
    };
    readonly throttling: {
      readonly periods?: Count;
      readonly throttledPeriods?: Count;
      readonly throttledTime?: Count;
    };
  };
  readonly cpuset: CpusetStats;
  readonly memory: {
    readonly cache?: Count;
    readonly usage: MemoryEntry;
    readonly swap: MemoryEntry;
    readonly kernel: MemoryEntry;
    readonly kernelTCP: MemoryEntry;
    readonly raw?: Readonly<Record<string, Count>>;
  };
  readonly pids: { readonly current?: Count; readonly limit?: Count };
  readonly blkio: Readonly<Partial<Record<BlkioTable, readonly BlkioEntry[]>>>;
  readonly hugetlb: Readonly<Record<string, { readonly usage?: Count; readonly max?: Count; readonly failcnt: Count }>>;
  readonly intel_rdt: Readonly<Record<string, never>>;
  readonly network_interfaces: null;
}

export interface CpusetStats {
  readonly cpus?: readonly number[];
  readonly cpu_exclusive: Count;
  readonly mems?: readonly number[];
  readonly mem_hardwall: Count;
  readonly mem_exclusive: Count;
  readonly memory_migrate: Count;
  readonly memory_spread_page: Count;
  readonly memory_spread_slab: Count;
  readonly memory_pressure: Count;
  readonly sched_load_balance: Count;
  readonly sched_relax_domain_level: Count;
}

export type BlkioTable =
  | 'ioServiceBytesRecursive'
  | 'ioServicedRecursive'
  | 'ioQueueRecursive'
  | 'ioServiceTimeRecursive'
  | 'ioWaitTimeRecursive'
  | 'ioMergedRecursive'
  | 'ioTimeRecursive'
  | 'sectorsRecursive';

/** What the container has used so far and what it may use, from whichever hierarchy has the files. */
export function stats(cgroup: Cgroup, files: CgroupFiles = kernelFiles): CgroupStats {
  const v1 = (controller: string): Reader | undefined => {
    const folder = v1Member(cgroup, controller)?.folder;
    return folder === undefined ? undefined : reader(folder, files);
  };
  const unified = v2Member(cgroup)?.folder;
  const fromV2 = unified === undefined ? undefined : statsV2(reader(unified, files));
  return { ...nothing, ...fromV2, ...statsV1(v1), intel_rdt: {}, network_interfaces: null };
}

const noMemory: MemoryEntry = { limit: 0, failcnt: 0 };
const nothing = {
  cpu: { usage: { kernel: 0, user: 0 }, throttling: {} },
  cpuset: {
    cpu_exclusive: 0,
    mem_hardwall: 0,
    mem_exclusive: 0,
    memory_migrate: 0,
    memory_spread_page: 0,
    memory_spread_slab: 0,
    memory_pressure: 0,
    sched_load_balance: 0,
    sched_relax_domain_level: 0,
  },
  memory: { usage: noMemory, swap: noMemory, kernel: noMemory, kernelTCP: noMemory },
  pids: {},
  blkio: {},
  hugetlb: {},
} as const satisfies Partial<CgroupStats>;

/** How many processes the kernel killed because the container had no memory left. */
export function oomKills(cgroup: Cgroup, files: CgroupFiles = kernelFiles): number {
  const v1 = v1Member(cgroup, 'memory');
  if (v1 !== undefined) {
    // v1 counts for each cgroup by itself, v2 for those below too.
    return foldersBelow(v1.folder, files)
      .map((folder) => Number(keyed(readIfThere(files, join(folder, 'memory.oom_control')), 'oom_kill') ?? 0))
      .reduce((sum, number) => sum + number, 0);
  }
  const v2 = v2Member(cgroup);
  if (v2 === undefined) return 0;
  return Number(keyed(readIfThere(files, join(v2.folder, 'memory.events')), 'oom_kill') ?? 0);
}

/** JSON in which a bigint is a number, written in full. */
export function statsJson(value: unknown): string {
  if (typeof value === 'bigint') return `${value}`;
  if (Array.isArray(value)) return `[${value.map(statsJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${statsJson(member)}`).join(',')}}`;
}
