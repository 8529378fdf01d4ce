import { isFrozen, killCgroup, removeCgroup, thaw } from '../../cgroup/index.ts';
import { TsvError } from '../../model/errors.ts';
import { endsWithin, signalProcess } from '../../sys/children.ts';
import { ContainerFolder, statusOf } from '../store.ts';
import { hooksAfter, type Runtime, wrongState } from './runtime.ts';

const SIGKILL = 9;
const longestEndMs = 10_000;

/** Removes what a container has left. @throws TSV_CONTAINER_STATE when it runs and `force` is not given */
export async function remove(runtime: Runtime, id: string, { force }: { force: boolean }): Promise<void> {
  let folder: ContainerFolder;
  try {
    folder = ContainerFolder.open(runtime.root, id);
  } catch (error) {
    if (force && error instanceof TsvError && error.code === 'TSV_CONTAINER_UNKNOWN') return;
    throw error;
  }
  const record = folder.read();
  if (record?.process === undefined && !force) throw wrongState(id, 'it is being created');
  if (record === undefined) {
    folder.remove();
    return;
  }
  const status = statusOf(record);
  if (status === 'running' && !force) {
    throw wrongState(id, `cannot delete a container that is running; kill it first, or delete --force`);
  }
  if (status !== 'stopped') {
    if (isFrozen(record.cgroup)) thaw(record.cgroup);
    signalProcess(record.process, SIGKILL);
    if (record.process !== undefined && !(await endsWithin(record.process.pid, longestEndMs))) {
      throw wrongState(id, `its process ${record.process.pid} was killed and is still there`, [
        `after ${longestEndMs / 1000} s: somebody else's cgroup freezes it, or it waits for a device that does not answer`,
      ]);
    }
  }
  // Without a PID namespace of its own, others may have outlived its process.
  await killCgroup(record.cgroup, SIGKILL);
  await removeCgroup(record.cgroup);
  await hooksAfter(runtime, 'poststop', record);
  folder.remove();
}
