import { type CgroupStats, stats, watchOom } from '../../cgroup/index.ts';
import { watchExit } from '../../sys/children.ts';
import { isAlive } from '../../sys/process.ts';
import { load, type Runtime, wrongState } from './runtime.ts';

export interface EventListeners {
  /** What the container uses: at first after one interval. */
  stats(data: CgroupStats): void;
  /** The kernel has killed in it for lack of memory. */
  oom(): void;
}

/** Beyond this a timer of Node's fires at once. */
const longestTimeoutMs = 2 ** 31 - 1;

/** Tells what happens in a container until its process ends. @throws TSV_CONTAINER_UNKNOWN, TSV_CONTAINER_STATE when it does not run */
export async function watchEvents(
  runtime: Runtime,
  id: string,
  intervalMs: number,
  listeners: EventListeners,
): Promise<void> {
  const { record } = load(runtime, id);
  const { exited, forget } = watchExit(record.process?.pid ?? 0);
  // Asked when the process is held: its number cannot become another's.
  if (!isAlive(record.process)) {
    forget();
    throw wrongState(id, 'it does not run');
  }
  const oom = watchOom(record.cgroup, listeners.oom);
  if (oom === undefined) runtime.warn(`${id} is in no cgroup with a memory controller: no oom events are told`);
  let timer: NodeJS.Timeout | undefined;
  const failed = new Promise<never>((_, reject) => {
    timer = setInterval(
      () => {
        try {
          listeners.stats(stats(record.cgroup));
        } catch (error) {
          if (isAlive(record.process)) reject(error);
        }
      },
      Math.min(intervalMs, longestTimeoutMs),
    );
  });
  try {
    await Promise.race([exited, failed]);
    oom?.look();
  } finally {
    clearInterval(timer);
    oom?.stop();
    forget();
  }
}
