import type { OciResources } from '../oci/spec.ts';
import { isSet, orMax, signed, unsigned } from './numbers.ts';
import { type Impossible, type Setting, write } from './setting.ts';
import {
  blockIoV1,
  blockIoV2,
  hugepagesV1,
  hugepagesV2,
  networkClass,
  networkPriorities,
  rdma,
} from './settings-io.ts';

type Version = 1 | 2;
type Group = (resources: OciResources, version: Version) => readonly Setting[];

/**
 * All of `linux.resources` but `devices` and `unified`, in the order in which it can be written. 0 is "not set" for
 * limits, as runc and Docker mean it; -1 is "no limit". `versionOf` says which hierarchy has a v1 controller's files;
 * where none has, what was asked for is {@link Impossible} with the reason that `versionOf` gives.
 */
export function settings(
  resources: OciResources,
  versionOf: (controller: string) => Version | { readonly reason: string },
): readonly Setting[] {
  return groups.flatMap(([controller, group]) => {
    const version = versionOf(controller);
    if (typeof version === 'number') return group(resources, version);
    const lost = group(resources, 1).filter((setting) => !('optional' in setting));
    const fields = [...new Set(lost.map(({ field }) => field))];
    return fields.map((field): Impossible => ({ controller, field, impossible: version.reason }));
  });
}

/** Where v1 still limits the buffers of TCP by themselves. */
export const tcpLimitFile = 'memory.kmem.tcp.limit_in_bytes';

/**
 * Members that are accepted and mean nothing to this kernel, one line each.
 * @param limitsTcp whether there is a {@link tcpLimitFile}
 */
export function ignoredFields({ memory, cpu }: OciResources, limitsTcp = false): string[] {
  const ignored: string[] = [];
  for (const name of ['kernel', 'kernelTCP'] as const) {
    if (memory?.[name] !== undefined && !(name === 'kernelTCP' && limitsTcp))
      ignored.push(`linux.resources.memory.${name} is ignored: the kernel no longer limits it by itself`);
  }
  if (memory?.useHierarchy === false)
    ignored.push('linux.resources.memory.useHierarchy is ignored: memory is always counted for the cgroups above too');
  if (cpu?.idle === 1 && isSet(cpu.shares))
    ignored.push('linux.resources.cpu.shares is ignored: an idle cgroup has no weight');
  return ignored;
}

const memory: Group = ({ memory = {} }, version) => {
  const controller = 'memory';
  const at = (name: string) => `linux.resources.memory.${name}`;
  const { limit, reservation, swappiness } = memory;
  const swap = isSet(memory.swap) ? memory.swap : limit === -1 ? -1 : undefined;
  const result: Setting[] = [];
  if (version === 1) {
    if (isSet(limit))
      result.push(write(controller, at('limit'), 'memory.limit_in_bytes', signed(limit), { deferrable: true }));
    if (swap !== undefined) {
      // Without a limit on swap asked for, a kernel that does not count swap has nothing to raise.
      const own = isSet(memory.swap) ? {} : ({ optional: true } as const);
      result.push(write(controller, at('swap'), 'memory.memsw.limit_in_bytes', signed(swap), own));
    }
    if (isSet(reservation))
      result.push(write(controller, at('reservation'), 'memory.soft_limit_in_bytes', signed(reservation)));
    if (isSet(memory.kernelTCP))
      result.push(write(controller, at('kernelTCP'), tcpLimitFile, signed(memory.kernelTCP), { optional: true }));
    if (memory.disableOOMKiller === true)
      result.push(write(controller, at('disableOOMKiller'), 'memory.oom_control', '1'));
    if (swappiness !== undefined && swappiness !== -1)
      result.push(write(controller, at('swappiness'), 'memory.swappiness', unsigned(swappiness)));
    return result;
  }
  if (swap !== undefined) {
    const value = swapBeyondMemory(swap, limit);
    if (typeof value === 'object') result.push({ controller, field: at('swap'), impossible: value.reason });
    else {
      // A kernel that does not count swap cannot let a container have any more than none of it.
      const own = value === 'max' || value === '0' ? ({ optional: true } as const) : {};
      result.push(write(controller, at('swap'), 'memory.swap.max', value, own));
    }
  }
  if (isSet(limit)) {
    const check = memory.checkBeforeUpdate === true && limit > 0;
    const notBelow = check ? { notBelow: { file: 'memory.current', limit: BigInt(signed(limit)) } } : {};
    result.push(write(controller, at('limit'), 'memory.max', orMax(limit), notBelow));
  }
  if (isSet(reservation)) result.push(write(controller, at('reservation'), 'memory.low', orMax(reservation)));
  if (swappiness !== undefined && swappiness !== -1)
    result.push({ controller, field: at('swappiness'), impossible: 'cgroup v2 has no swappiness' });
  if (memory.disableOOMKiller === true)
    result.push({ controller, field: at('disableOOMKiller'), impossible: 'cgroup v2 cannot turn the OOM killer off' });
  return result;
};

/** The specification counts memory and swap together, cgroup v2 swap alone. */
export function swapBeyondMemory(swap: number, limit: number | undefined): string | { readonly reason: string } {
  if (swap < 0) return 'max';
  if (!isSet(limit) || limit < 0) return { reason: 'it counts memory and swap together and needs memory.limit' };
  const beyond = BigInt(signed(swap)) - BigInt(signed(limit));
  return beyond < 0n ? { reason: `memory and swap together cannot be less than memory (${limit})` } : `${beyond}`;
}

const cpu: Group = ({ cpu = {} }, version) => {
  const controller = 'cpu';
  const at = (name: string) => `linux.resources.cpu.${name}`;
  const { shares, quota, period, burst, idle, realtimePeriod, realtimeRuntime } = cpu;
  const result: Setting[] = [];
  const deferrable = { deferrable: true } as const;
  if (idle !== undefined) {
    const own = idle === 0 ? ({ optional: true } as const) : {};
    result.push(write(controller, at('idle'), 'cpu.idle', signed(idle), own));
  }
  const weighed = isSet(shares) && idle !== 1;
  if (weighed && version === 1)
    result.push(write(controller, at('shares'), 'cpu.shares', unsigned(shares), { readBack: true }));
  if (weighed && version === 2) result.push(write(controller, at('shares'), 'cpu.weight', `${weightOfShares(shares)}`));
  if (burst !== undefined) {
    const own = burst === 0 ? ({ deferrable: true, optional: true } as const) : deferrable;
    const file = version === 1 ? 'cpu.cfs_burst_us' : 'cpu.max.burst';
    result.push(write(controller, at('burst'), file, unsigned(burst), own));
  }
  if (version === 1) {
    if (isSet(period)) result.push(write(controller, at('period'), 'cpu.cfs_period_us', unsigned(period), deferrable));
    if (isSet(quota)) result.push(write(controller, at('quota'), 'cpu.cfs_quota_us', signed(quota)));
    if (isSet(realtimePeriod))
      result.push(write(controller, at('realtimePeriod'), 'cpu.rt_period_us', unsigned(realtimePeriod), deferrable));
    if (isSet(realtimeRuntime))
      result.push(write(controller, at('realtimeRuntime'), 'cpu.rt_runtime_us', signed(realtimeRuntime)));
    return result;
  }
  if (isSet(quota))
    result.push(
      write(controller, at('quota'), 'cpu.max', `${orMax(quota)}${isSet(period) ? ` ${unsigned(period)}` : ''}`),
    );
  else if (isSet(period))
    result.push(
      write(controller, at('period'), 'cpu.max', (now) => `${now.split(' ')[0] || 'max'} ${unsigned(period)}`),
    );
  for (const [name, value] of Object.entries({ realtimePeriod, realtimeRuntime }))
    if (isSet(value))
      result.push({ controller, field: at(name), impossible: 'cgroup v2 has no shares of realtime scheduling' });
  return result;
};

/** cpu.shares 2 … 262144 to cpu.weight 1 … 10000, linearly, as runc does it. */
export function weightOfShares(shares: number): number {
  const inRange = Math.min(Math.max(shares, 2), 262_144);
  return 1 + Math.floor(((inRange - 2) * 9999) / 262_142);
}

const cpuset: Group = ({ cpu = {} }, version) =>
  (['cpus', 'mems'] as const).flatMap((name) => {
    const list = cpu[name];
    if (list === undefined || list === '') return [];
    const more = version === 2 ? { effective: `cpuset.${name}.effective` } : {};
    return [write('cpuset', `linux.resources.cpu.${name}`, `cpuset.${name}`, list, more)];
  });

/** No process number lies beyond (PID_MAX_LIMIT), and the kernel takes no limit beyond it. */
const highestPid = 4_194_304;

const pids: Group = ({ pids }) =>
  isSet(pids?.limit)
    ? [write('pids', 'linux.resources.pids.limit', 'pids.max', pids.limit > highestPid ? 'max' : orMax(pids.limit))]
    : [];

const groups: readonly (readonly [controller: string, group: Group])[] = [
  ['cpuset', cpuset],
  ['memory', memory],
  ['cpu', cpu],
  ['pids', pids],
  ['blkio', (resources, version) => (version === 1 ? blockIoV1 : blockIoV2)(resources.blockIO ?? {})],
  ['hugetlb', ({ hugepageLimits = [] }, version) => (version === 1 ? hugepagesV1 : hugepagesV2)(hugepageLimits)],
  ['net_cls', networkClass],
  ['net_prio', networkPriorities],
  ['rdma', rdma],
];
