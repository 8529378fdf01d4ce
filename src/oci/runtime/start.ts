import { closeSync } from 'node:fs';
import { oomKills } from '../../cgroup/index.ts';
import { TsvError } from '../../model/errors.ts';
import { signalProcess, waitExit } from '../../sys/children.ts';
import { errnoName } from '../../sys/errno.ts';
import { consolePair, receiveTerminal } from '../console.ts';
import { commandFailure } from '../failures.ts';
import { readGate } from '../gate.ts';
import { runHooks } from '../hooks.ts';
import { ContainerFolder, type ContainerRecord, stateOf, statusOf } from '../store.ts';
import { type Made, make, type StartRequest } from './create.ts';
import { remove } from './delete.ts';
import { attend, forwardSignals } from './foreground.ts';
import { hooksAfter, load, type Runtime, wrongState } from './runtime.ts';

const SIGKILL = 9;

/** Executes the process of a created container. @throws TSV_CONTAINER_STATE, TSV_COMMAND_NOT_FOUND, TSV_HOOK */
export async function start(runtime: Runtime, id: string): Promise<void> {
  const { folder, record } = load(runtime, id);
  const status = statusOf(record);
  if (status !== 'created') throw wrongState(id, `cannot start a container that is ${status}`);
  await started(runtime, folder, record, async () => {
    const errno = await readGate(folder.gate);
    if (errno === 'gone') throw wrongState(id, 'its process has ended');
    if (errno !== undefined) throw commandFailure(id, record.config.process?.args[0] ?? '', errnoName(errno));
  });
}

/** What `start` and `run` have in common: hooks before and after. */
async function started(
  runtime: Runtime,
  folder: ContainerFolder,
  record: ContainerRecord,
  release: () => Promise<void>,
): Promise<ContainerRecord> {
  const { config, process } = record;
  if (config.process === undefined) {
    throw new TsvError('TSV_BUNDLE', `container ${record.id}: its configuration has no process to start`);
  }
  try {
    await runHooks(
      'startContainer',
      config,
      stateOf(record, 'created'),
      process === undefined
        ? {}
        : { inside: { pid: process.pid, rootfs: '/', cgroups: record.cgroup.members.map(({ folder }) => folder) } },
    );
    await release();
  } catch (error) {
    signalProcess(process, SIGKILL);
    if (process !== undefined) await waitExit(process.pid);
    throw error;
  }
  const running = { ...record, started: true };
  folder.write(running);
  folder.removeGate();
  await hooksAfter(runtime, 'poststart', running);
  return running;
}

/**
 * Creates and starts; in the foreground it waits, and deletes the container unless it is to be kept.
 * @returns the exit code: the process's, 128 + signal, or 0 when detached
 */
export async function run(
  runtime: Runtime,
  request: StartRequest & { readonly detach: boolean; readonly keep: boolean },
): Promise<number> {
  const folder = ContainerFolder.create(runtime.root, request.id);
  // Only a process that outlives us needs to take its terminal elsewhere.
  const pair = !request.detach && request.consoleSocket === undefined ? consolePair() : undefined;
  let made: Made | undefined;
  try {
    made = await make(runtime, folder, request, pair === undefined ? {} : { console: pair.send });
    const { container, record } = made;
    const proxy =
      pair !== undefined && record.config.process?.terminal === true ? receiveTerminal(pair.receive) : undefined;
    const signals = request.detach ? undefined : forwardSignals();
    try {
      await started(runtime, folder, record, () => container.start({ detach: request.detach }));
    } catch (error) {
      signals?.stop();
      throw error;
    }
    if (signals === undefined) return 0;
    const code = await attend(container, proxy, signals);
    if (code === 128 + SIGKILL) warnOfOom(runtime, record);
    if (!request.keep) await remove(runtime, request.id, { force: true });
    return code;
  } catch (error) {
    if (made === undefined) folder.remove();
    else await remove(runtime, request.id, { force: true });
    throw error;
  } finally {
    if (pair !== undefined) for (const fd of [pair.send, pair.receive]) closeSync(fd);
  }
}

/** Nothing else tells a process that the kernel killed for memory from one that somebody killed. */
function warnOfOom(runtime: Runtime, { id, cgroup }: ContainerRecord): void {
  const kills = oomKills(cgroup);
  if (kills > 0)
    runtime.warn(
      `container ${id} had no memory left: the kernel killed ${kills === 1 ? 'a process' : `${kills} processes`} of it`,
    );
}
