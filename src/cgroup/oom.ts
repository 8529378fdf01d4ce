import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { O } from '../sys/flags.ts';
import { pollReadable, syscall } from '../sys/libc.ts';
import { type CgroupFiles, isGone, kernelFiles, readIfThere } from './files.ts';
import { type Cgroup, v1Member, v2Member } from './place.ts';
import { keyed } from './wait.ts';

export interface OomWatch {
  /** Calls back for what has happened and was not told yet. */
  look(): void;
  stop(): void;
}

/**
 * Calls back each time the kernel finds no memory for the container and kills in it, as the kernel tells it: in v1 by an
 * eventfd (memory.rst, "OOM Control"), in v2 by a change of memory.events (cgroup-v2.rst). Events close together may be
 * told once.
 * @returns undefined where no memory controller counts the container's memory
 */
export function watchOom(cgroup: Cgroup, onOom: () => void, files: CgroupFiles = kernelFiles): OomWatch | undefined {
  const v1 = v1Member(cgroup, 'memory');
  if (v1 !== undefined) return watchV1(v1.folder, onOom, files);
  const v2 = v2Member(cgroup);
  const events = join(v2?.folder ?? '', 'memory.events');
  return v2 !== undefined && files.exists(events) ? watchV2(events, onOom, files) : undefined;
}

function watchV2(events: string, onOom: () => void, files: CgroupFiles): OomWatch {
  const count = () => Number(keyed(readIfThere(files, events), 'oom_kill') ?? 0);
  let told = 0;
  const look = () => {
    const now = count();
    if (now > told) onOom();
    told = Math.max(told, now);
  };
  const stop = files.onChange(events, look);
  told = count();
  return { look, stop };
}

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

function watchV1(folder: string, onOom: () => void, files: CgroupFiles): OomWatch {
  const eventFd = syscall('eventfd2', 'watching for a lack of memory', 0, EFD_CLOEXEC | EFD_NONBLOCK);
  const register = join(folder, 'cgroup.event_control');
  let poll: ReturnType<typeof pollReadable> | undefined;
  const stop = () => {
    if (poll === undefined) return;
    poll.stop();
    poll = undefined;
    closeSync(eventFd);
  };
  const look = () => {
    if (poll === undefined || readEvents(eventFd) === 0) return;
    // A cgroup's removal is an event too.
    if (files.exists(register)) onOom();
    else stop();
  };
  poll = pollReadable(eventFd, look);
  try {
    const control = openSync(join(folder, 'memory.oom_control'), O.RDONLY | O.CLOEXEC);
    try {
      files.write(register, `${eventFd} ${control}`);
    } finally {
      closeSync(control); // the kernel keeps the cgroup, not the descriptor
    }
  } catch (error) {
    stop();
    if (!isGone(error)) throw error;
  }
  return { look, stop };
}

/** How many events an eventfd(2) has counted since it was last read. */
function readEvents(fd: number): number {
  const counter = Buffer.alloc(8);
  try {
    readSync(fd, counter);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
  return Number(counter.readBigUInt64LE());
}
