import { readFileSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { errnoName } from '../sys/errno.ts';
import { trySyscall, withBytes } from '../sys/libc.ts';
import { writeProc } from '../sys/procfs.ts';
import type { OciProcess, OciScheduler } from './spec.ts';

/*
 * What a process is given from outside, by its pid, before it becomes what it is to be: its own rights may not reach.
 */

const resources: Readonly<Record<string, number>> = {
  RLIMIT_CPU: 0,
  RLIMIT_FSIZE: 1,
  RLIMIT_DATA: 2,
  RLIMIT_STACK: 3,
  RLIMIT_CORE: 4,
  RLIMIT_RSS: 5,
  RLIMIT_NPROC: 6,
  RLIMIT_NOFILE: 7,
  RLIMIT_MEMLOCK: 8,
  RLIMIT_AS: 9,
  RLIMIT_LOCKS: 10,
  RLIMIT_SIGPENDING: 11,
  RLIMIT_MSGQUEUE: 12,
  RLIMIT_NICE: 13,
  RLIMIT_RTPRIO: 14,
  RLIMIT_RTTIME: 15,
};

const max64 = 2n ** 64n - 1n;
/** JSON's numbers beyond 2^53 arrive rounded: RLIM_INFINITY as 2^64. */
const unsigned64 = (value: number): bigint => {
  const whole = BigInt(Math.trunc(value));
  return whole > max64 ? max64 : BigInt.asUintN(64, whole);
};

/** Whether {@link limitProcess} has anything to do. */
export const hasLimits = ({ oomScoreAdj, rlimits = [], scheduler, ioPriority }: OciProcess): boolean =>
  oomScoreAdj !== undefined || rlimits.length > 0 || scheduler !== undefined || ioPriority !== undefined;

/** @throws TSV_CONTAINER_START naming the JSON path, where this caller may not */
export function limitProcess(pid: number, process: OciProcess): void {
  if (process.oomScoreAdj !== undefined) setOomScore(pid, process.oomScoreAdj);
  process.rlimits?.forEach(({ type, soft, hard }, index) => {
    const limits = Buffer.alloc(16);
    limits.writeBigUInt64LE(unsigned64(soft), 0);
    limits.writeBigUInt64LE(unsigned64(hard), 8);
    const result = withBytes(limits, (address) => trySyscall('prlimit64', pid, resources[type] ?? -1, address, 0));
    if (result < 0) throw refused(`process.rlimits[${index}]: ${type} ${soft}:${hard}`, result);
  });
  if (process.scheduler !== undefined) schedule(pid, process.scheduler);
  if (process.ioPriority !== undefined) {
    const classes: readonly string[] = ['IOPRIO_CLASS_NONE', 'IOPRIO_CLASS_RT', 'IOPRIO_CLASS_BE', 'IOPRIO_CLASS_IDLE'];
    const value = (classes.indexOf(process.ioPriority.class) << 13) | (process.ioPriority.priority ?? 0);
    const IOPRIO_WHO_PROCESS = 1;
    const result = trySyscall('ioprio_set', IOPRIO_WHO_PROCESS, pid, value);
    if (result < 0) throw refused(`process.ioPriority: ${process.ioPriority.class}`, result);
  }
}

/** proc(5), /proc/PID/oom_score_adj: lowering it needs CAP_SYS_RESOURCE. */
function setOomScore(pid: number, score: number): void {
  const file = `${pid}/oom_score_adj`;
  try {
    if (Number(readFileSync(`/proc/${file}`, 'utf8')) !== score) writeProc(file, String(score));
  } catch (error) {
    throw new TsvError(
      'TSV_CONTAINER_START',
      `process.oomScoreAdj: ${score}: ${(error as NodeJS.ErrnoException).code}`,
      {
        details: ['a lower value than its own needs CAP_SYS_RESOURCE'],
        cause: error,
      },
    );
  }
}

const policies: Readonly<Record<string, number>> = {
  SCHED_OTHER: 0,
  SCHED_FIFO: 1,
  SCHED_RR: 2,
  SCHED_BATCH: 3,
  SCHED_ISO: 4,
  SCHED_IDLE: 5,
  SCHED_DEADLINE: 6,
};
const schedulerFlags: Readonly<Record<string, number>> = {
  SCHED_FLAG_RESET_ON_FORK: 1,
  SCHED_FLAG_RECLAIM: 2,
  SCHED_FLAG_DL_OVERRUN: 4,
  SCHED_FLAG_KEEP_POLICY: 8,
  SCHED_FLAG_KEEP_PARAMS: 16,
  SCHED_FLAG_UTIL_CLAMP_MIN: 32,
  SCHED_FLAG_UTIL_CLAMP_MAX: 64,
};

/** struct sched_attr of sched_setattr(2), its first version of 48 bytes. */
function schedule(pid: number, scheduler: OciScheduler): void {
  const attributes = Buffer.alloc(48);
  attributes.writeUInt32LE(48, 0);
  attributes.writeUInt32LE(policies[scheduler.policy] ?? 0, 4);
  const flags = (scheduler.flags ?? []).reduce((sum, flag) => sum | (schedulerFlags[flag] ?? 0), 0);
  attributes.writeBigUInt64LE(BigInt(flags), 8);
  attributes.writeInt32LE(scheduler.nice ?? 0, 16);
  attributes.writeUInt32LE(scheduler.priority ?? 0, 20);
  attributes.writeBigUInt64LE(unsigned64(scheduler.runtime ?? 0), 24);
  attributes.writeBigUInt64LE(unsigned64(scheduler.deadline ?? 0), 32);
  attributes.writeBigUInt64LE(unsigned64(scheduler.period ?? 0), 40);
  const result = withBytes(attributes, (address) => trySyscall('sched_setattr', pid, address, 0));
  if (result < 0) throw refused(`process.scheduler: ${scheduler.policy}`, result);
}

const refused = (what: string, result: number): TsvError =>
  new TsvError('TSV_CONTAINER_START', `${what}: ${errnoName(-result)}`, {
    details: ['the kernel does not let this user set it'],
  });
