import { type Cgroup, changeLimits, type MissingLimit, stats } from '../../src/cgroup/index.ts';
import { TsvError } from '../../src/model/errors.ts';
import { type IoLimits, type Machine, usualShares } from '../../src/model/project.ts';
import type { OciResources } from '../../src/oci/spec.ts';
import type { DeviceNumber } from './disk-numbers.ts';

type Limits = Pick<Machine, 'memoryBytes' | 'cpus' | 'pids' | 'cpuShares' | 'io'>;
type LimitResources = Pick<OciResources, 'memory' | 'cpu' | 'pids' | 'blockIO'>;

/** Limits that every machine has, and so the controllers whose absence is worth a word. */
export const limited: readonly string[] = ['memory', 'cpu', 'pids'];

const members = ['memory', 'cpu', 'pids', 'blockIO'] as const satisfies readonly (keyof LimitResources)[];

const cpuPeriodUs = 100_000;

/** @param disks that `io` is for */
export const limitsOf = (
  { memoryBytes, cpus, pids, cpuShares = usualShares, io }: Limits,
  disks: readonly DeviceNumber[],
): LimitResources => ({
  memory: { limit: memoryBytes },
  // Always with shares: the kernel's own usual weight is not that of 1024 shares in cgroup v2.
  cpu: { shares: cpuShares, quota: Math.max(1000, Math.round(cpus * cpuPeriodUs)), period: cpuPeriodUs },
  pids: { limit: pids },
  ...(io === undefined ? {} : { blockIO: throttles(io, disks) }),
});

/** Each of the four, so that those of before are lifted: 0 is no limit. */
function throttles(io: IoLimits, disks: readonly DeviceNumber[]): NonNullable<OciResources['blockIO']> {
  const of = (rate = 0) => disks.map((disk) => ({ ...disk, rate }));
  return {
    throttleReadBpsDevice: of(io.readBytesPerSecond),
    throttleWriteBpsDevice: of(io.writeBytesPerSecond),
    throttleReadIOPSDevice: of(io.readsPerSecond),
    throttleWriteIOPSDevice: of(io.writesPerSecond),
  };
}

/** What a container that has limits of io was started with them for. */
export const limitedDisks = ({ blockIO }: OciResources): readonly DeviceNumber[] =>
  (blockIO?.throttleReadBpsDevice ?? []).map(({ major, minor }) => ({ major, minor }));

/** What to say of limits that are not in force: nothing or one line. */
export function noLimit(missing: readonly MissingLimit[]): readonly string[] {
  const names = [...limited, 'blkio'].filter((name) => missing.some(({ controller }) => controller === name));
  if (names.length === 0) return [];
  return [`no limit on ${names.join(', ').replace('blkio', 'io')}: no cgroup of one's own here (tsv doctor)`];
}

/** The same of `io` where what is limited is on no disk. */
export const noDisk = ({ io }: Limits, disks: readonly DeviceNumber[]): readonly string[] =>
  io === undefined || disks.length > 0
    ? []
    : ['no limit on io: its files are on a file system that is not on one disk'];

/**
 * Gives a container that runs new limits.
 * @param disks those that it was started with
 * @returns what to say of those that cannot be set here, as {@link noLimit}
 * @throws TSV_CGROUP where the kernel refuses one; all are as before then
 */
export function adjustLimits(
  cgroup: Cgroup,
  disks: readonly DeviceNumber[],
  before: Machine,
  after: Machine,
): readonly string[] {
  const [old, wanted] = [limitsOf(before, disks), limitsOf(after, disks)];
  const changed = members.filter((name) => JSON.stringify(old[name]) !== JSON.stringify(wanted[name]));
  const only = (limits: LimitResources): OciResources =>
    Object.fromEntries(changed.map((name) => [name, limits[name]]));
  const { missing, refused } = changeLimits(cgroup, only(old), only(wanted));
  if (refused !== undefined) throw refusal(refused, cgroup, before, after);
  return [...noLimit(missing), ...noDisk(after, disks)];
}

/** Gives a container that runs the limits that it is known to have. One that the kernel refuses stays as it is. */
export function restoreLimits(cgroup: Cgroup, disks: readonly DeviceNumber[], machine: Machine): void {
  const limits = limitsOf(machine, disks);
  changeLimits(cgroup, limits, limits);
}

function refusal(refused: MissingLimit, cgroup: Cgroup, before: Machine, after: Machine): TsvError {
  const { name } = before;
  if (refused.controller !== 'memory' || refused.errno !== 'EBUSY') {
    return new TsvError('TSV_CGROUP', `${name}: the new limits cannot be set`, {
      details: [`${refused.field}: ${refused.reason}`, 'it runs on with its old limits'],
      hint: `tsv reload ${name}   # starts it anew with them`,
    });
  }
  const used = mebibytes(Number(stats(cgroup).memory.usage.usage ?? 0));
  return new TsvError('TSV_CGROUP', `${name} cannot be limited to ${mebibytes(after.memoryBytes)}: it uses ${used}`, {
    details: [
      'this much is left when the kernel has dropped what it can',
      `it runs on with its old limits, ${mebibytes(before.memoryBytes)} of memory among them`,
    ],
    hint: `tsv top ${name}   # what uses it\ntsv reload ${name}   # starts it anew with the new limits`,
  });
}

const mebibytes = (bytes: number): string => `${Number((bytes / 2 ** 20).toFixed(1))} MiB`;
