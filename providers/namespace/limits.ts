import { type Cgroup, changeLimits, type MissingLimit, stats } from '../../src/cgroup/index.ts';
import { TsvError } from '../../src/model/errors.ts';
import type { Machine } from '../../src/model/project.ts';
import type { OciResources } from '../../src/oci/spec.ts';

type Limits = Pick<Machine, 'memoryBytes' | 'cpus' | 'pids'>;
type LimitResources = Required<Pick<OciResources, 'memory' | 'cpu' | 'pids'>>;

/** Limits that a machine has, and so the controllers whose absence is worth a word. */
export const limited = ['memory', 'cpu', 'pids'] as const;

const cpuPeriodUs = 100_000;

export const limitsOf = ({ memoryBytes, cpus, pids }: Limits): LimitResources => ({
  memory: { limit: memoryBytes },
  cpu: { quota: Math.max(1000, Math.round(cpus * cpuPeriodUs)), period: cpuPeriodUs },
  pids: { limit: pids },
});

/** What to say of limits that are not in force: nothing or one line. */
export function noLimit(missing: readonly MissingLimit[]): readonly string[] {
  const names = limited.filter((name) => missing.some(({ controller }) => controller === name));
  return names.length === 0 ? [] : [`no limit on ${names.join(', ')}: no cgroup of one's own here (tsv doctor)`];
}

/**
 * Gives a container that runs new limits.
 * @returns what to say of those that cannot be set here, as {@link noLimit}
 * @throws TSV_CGROUP where the kernel refuses one; all are as before then
 */
export function adjustLimits(cgroup: Cgroup, before: Machine, after: Machine): readonly string[] {
  const [old, wanted] = [limitsOf(before), limitsOf(after)];
  const changed = limited.filter((name) => JSON.stringify(old[name]) !== JSON.stringify(wanted[name]));
  const only = (limits: LimitResources): OciResources =>
    Object.fromEntries(changed.map((name) => [name, limits[name]]));
  const { missing, refused } = changeLimits(cgroup, only(old), only(wanted));
  if (refused !== undefined) throw refusal(refused, cgroup, before, after);
  return noLimit(missing);
}

/** Gives a container that runs the limits that it is known to have. One that the kernel refuses stays as it is. */
export function restoreLimits(cgroup: Cgroup, machine: Machine): void {
  const limits = limitsOf(machine);
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
