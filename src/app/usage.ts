import type { MachineKind } from '../model/project.ts';
import type { DiskTraffic, Traffic } from '../sys/proc-text.ts';

/** Where a number comes from: the kernel's count for the container, its processes one by one, or the VM's QEMU. */
export type UsageSource = 'cgroup' | 'processes' | 'qemu';

/** What a machine has used since it started, at one moment. */
export interface Counters {
  /** Of a clock that only goes forward. */
  readonly atNs: bigint;
  readonly cpuNs: number;
  readonly memoryBytes: number;
  /** What it may use; of a container without a limit of its own, what the host has. */
  readonly memoryLimitBytes: number;
  /** Processes and threads; not known of a VM. */
  readonly pids?: number;
  readonly network: Traffic;
  readonly disk: DiskTraffic;
  readonly source: { readonly cpu: UsageSource; readonly memory: UsageSource; readonly disk: UsageSource };
}

/** One line of `tsv stats`. */
export interface Usage {
  /** ISO 8601. */
  readonly time: string;
  readonly machine: string;
  readonly kind: MachineKind;
  /** 100 is one CPU at work all the time since the sample before. */
  readonly cpuPercent: number;
  readonly memoryBytes: number;
  readonly memoryLimitBytes: number;
  readonly memoryPercent: number;
  readonly pids?: number;
  /** Since the start, as the machine sees it. */
  readonly network: Traffic;
  /** Since the start. */
  readonly disk: DiskTraffic;
  readonly source: Counters['source'];
}

/** Of two samples of the same run of a machine. */
export function usageBetween(
  before: Counters,
  after: Counters,
  about: Pick<Usage, 'time' | 'machine' | 'kind'>,
): Usage {
  const elapsedNs = Number(after.atNs - before.atNs);
  const { memoryBytes, memoryLimitBytes, pids, network, disk, source } = after;
  return {
    ...about,
    // Processes that ended between may have taken their time with them.
    cpuPercent: elapsedNs <= 0 ? 0 : rounded((Math.max(0, after.cpuNs - before.cpuNs) / elapsedNs) * 100),
    memoryBytes,
    memoryLimitBytes,
    memoryPercent: memoryLimitBytes <= 0 ? 0 : rounded((memoryBytes / memoryLimitBytes) * 100),
    ...(pids === undefined ? {} : { pids }),
    network,
    disk,
    source,
  };
}

const rounded = (value: number): number => Math.round(value * 100) / 100;
