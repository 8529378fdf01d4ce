import { isFrozen } from '../../cgroup/index.ts';
import { TsvError } from '../../model/errors.ts';
import { runHooks } from '../hooks.ts';
import type { OciState } from '../spec.ts';
import { ContainerFolder, type ContainerRecord, stateOf, statusOf } from '../store.ts';

/*
 * What all operations of a runtime rest on: runtime.md, "Operations" and "Lifecycle". What waits for a process alone does not
 * keep Node's event loop going (src/sys/children.ts, keepAlive): the process edge does, for all of them.
 */

export interface Runtime {
  /** Folder of the containers' state. */
  readonly root: string;
  /** systemd was asked to make the cgroups. */
  readonly systemdCgroup: boolean;
  /** For the log. */
  warn(message: string): void;
}

/** The standard streams of a process in the foreground. */
export const ownStdio = { stdin: 0, stdout: 1, stderr: 2 };

/** Descriptors that a process keeps beside them. */
export const preserved = (count: number): number[] => Array.from({ length: count }, (_, i) => 3 + i);

/** A container that has been created. @throws TSV_CONTAINER_UNKNOWN, TSV_CONTAINER_STATE */
export function load(runtime: Runtime, id: string): { folder: ContainerFolder; record: ContainerRecord } {
  const folder = ContainerFolder.open(runtime.root, id);
  const record = folder.read();
  if (record?.process === undefined) {
    throw new TsvError('TSV_CONTAINER_STATE', `container ${id} is being created`, {
      hint: `if whoever made it is gone: tsv oci delete --force ${id}`,
    });
  }
  return { folder, record };
}

export const wrongState = (id: string, what: string, details: readonly string[] = []): TsvError =>
  new TsvError('TSV_CONTAINER_STATE', `container ${id}: ${what}`, { details });

/** As runc has it: `paused` where the specification knows only `running`. */
export const statusWord = (record: ContainerRecord): OciState['status'] | 'paused' => {
  const status = statusOf(record);
  return status === 'running' && isFrozen(record.cgroup) ? 'paused' : status;
};

/** Hooks of what has happened: what one does wrong is said, and stops nothing, neither the others nor the container. */
export async function hooksAfter(
  runtime: Runtime,
  kind: 'poststart' | 'poststop',
  record: ContainerRecord,
): Promise<void> {
  const state = stateOf(record, kind === 'poststop' ? 'stopped' : 'running');
  await runHooks(kind, record.config, state, {
    onFailure: ({ message, details }) => runtime.warn([message, ...details].join(': ')),
  });
}
