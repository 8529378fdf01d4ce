import { type CgroupStats, freeze, killCgroup, stats, thaw, updateCgroup } from '../../cgroup/index.ts';
import { signalProcess } from '../../sys/children.ts';
import { isAlive } from '../../sys/process.ts';
import type { OciResources } from '../spec.ts';
import { load, type Runtime, statusWord, wrongState } from './runtime.ts';

/** Sends a signal to the process, or to everything in the container. @throws TSV_CONTAINER_STATE when it does not run */
export async function kill(runtime: Runtime, id: string, signal: number, options: { all: boolean }): Promise<void> {
  const { record } = load(runtime, id);
  if (options.all) return killCgroup(record.cgroup, signal);
  if (!signalProcess(record.process, signal)) throw wrongState(id, 'container not running');
}

export async function pause(runtime: Runtime, id: string): Promise<void> {
  const { record } = load(runtime, id);
  const status = statusWord(record);
  if (status !== 'running' && status !== 'created') throw wrongState(id, `cannot pause a container that is ${status}`);
  await freeze(record.cgroup);
}

export function resume(runtime: Runtime, id: string): void {
  const { record } = load(runtime, id);
  if (statusWord(record) !== 'paused') throw wrongState(id, 'cannot resume a container that is not paused');
  thaw(record.cgroup);
}

export function update(runtime: Runtime, id: string, resources: OciResources): void {
  const { record } = load(runtime, id);
  if (!isAlive(record.process)) throw wrongState(id, 'cannot update a container that is stopped');
  for (const warning of updateCgroup(record.cgroup, resources, { strict: true }).warnings) runtime.warn(warning);
}

export const statistics = (runtime: Runtime, id: string): CgroupStats => {
  const { record } = load(runtime, id);
  if (!isAlive(record.process)) throw wrongState(id, 'it does not run');
  return stats(record.cgroup);
};
