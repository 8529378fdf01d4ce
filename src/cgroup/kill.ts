import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { pollReadable, trySyscall } from '../sys/libc.ts';
import { type CgroupFiles, isGone, kernelFiles } from './files.ts';
import { freeze, isFrozen, thaw } from './freeze.ts';
import { type Cgroup, v1Member, v2Member } from './place.ts';
import { cgroupProcesses } from './processes.ts';

const SIGKILL = 9;

/**
 * Sends the signal to every process of the container, none of which can escape by forking meanwhile. With SIGKILL it
 * returns when none is left; with others at once, and what was frozen stays frozen. Zombies do not count; children of
 * this process are not reaped.
 * @throws TSV_CGROUP when processes are left after `timeoutMs`
 */
export async function killCgroup(
  cgroup: Cgroup,
  signal: number,
  { timeoutMs = 10_000 }: { readonly timeoutMs?: number } = {},
  files: CgroupFiles = kernelFiles,
): Promise<void> {
  if (signal !== SIGKILL) {
    const wasFrozen = isFrozen(cgroup, files);
    const held = wasFrozen || (await tryFreeze(cgroup, 1000, files));
    signalAll(cgroup, signal, files).close();
    if (held && !wasFrozen) thaw(cgroup, files);
    return;
  }
  const deadline = performance.now() + timeoutMs;
  killAtOnce(cgroup, files);
  // What has moved itself out of the unified cgroup, or all of it before Linux 5.14.
  for (let round = 0; ; round++) {
    // A pass without freezing is enough unless they fork.
    const held = round > 0 && (await tryFreeze(cgroup, 200, files));
    const ended = signalAll(cgroup, SIGKILL, files);
    // In the v1 freezer even SIGKILL waits.
    if (held || (v1Member(cgroup, 'freezer') !== undefined && isFrozen(cgroup, files))) thaw(cgroup, files);
    if (ended.count === 0) {
      ended.close();
      return;
    }
    await ended.all(Math.max(0, deadline - performance.now()));
    ended.close();
    if (performance.now() >= deadline) break;
  }
  const left = cgroupProcesses(cgroup, files);
  if (left.length === 0) return;
  throw new TsvError('TSV_CGROUP', `${left.length} processes of the container did not end within ${timeoutMs} ms`, {
    details: [`killed, and still there: ${left.slice(0, 20).join(' ')}`],
  });
}

/** cgroup.kill (since 5.14) kills all at once, those that are just being forked too. */
function killAtOnce(cgroup: Cgroup, files: CgroupFiles): void {
  const file = join(v2Member(cgroup)?.folder ?? '', 'cgroup.kill');
  if (v2Member(cgroup) === undefined || !files.exists(file)) return;
  try {
    files.write(file, '1');
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

async function tryFreeze(cgroup: Cgroup, timeoutMs: number, files: CgroupFiles): Promise<boolean> {
  try {
    await freeze(cgroup, { timeoutMs }, files);
    return true;
  } catch {
    return false; // without a freezer, or with a process that does not stand still, it takes more rounds
  }
}

interface Signalled {
  readonly count: number;
  /** Resolves when all have ended, or the time is over. */
  all(timeoutMs: number): Promise<void>;
  close(): void;
}

/** Signals by pidfd: a process that ended meanwhile cannot be mistaken for one that got its number. */
function signalAll(cgroup: Cgroup, signal: number, files: CgroupFiles): Signalled {
  const fds = new Map<number, number>();
  for (const pid of cgroupProcesses(cgroup, files)) {
    const fd = trySyscall('pidfd_open', pid, 0);
    if (fd >= 0) fds.set(pid, fd);
  }
  // Still listed now that the descriptors are there: they are the container's.
  const listed = new Set(fds.size === 0 ? [] : cgroupProcesses(cgroup, files));
  for (const [pid, fd] of fds) if (listed.has(pid)) trySyscall('pidfd_send_signal', fd, signal, 0, 0);
  return {
    count: fds.size,
    all: (timeoutMs) => allReadable([...fds.values()], timeoutMs),
    close: () => {
      for (const fd of fds.values()) closeSync(fd);
      fds.clear();
    },
  };
}

/** A pidfd becomes readable when its process has ended (pidfd_open(2)). */
function allReadable(fds: readonly number[], timeoutMs: number): Promise<void> {
  return new Promise((resolve) => {
    const polls = new Set<{ stop(): void }>();
    const finish = () => {
      clearTimeout(timer);
      for (const poll of polls) poll.stop();
      resolve();
    };
    const timer = setTimeout(finish, timeoutMs);
    for (const fd of fds) {
      const poll = pollReadable(fd, () => {
        poll.stop();
        polls.delete(poll);
        if (polls.size === 0) finish();
      });
      polls.add(poll);
    }
    if (polls.size === 0) finish();
  });
}
