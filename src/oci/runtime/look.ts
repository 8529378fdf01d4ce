import { cgroupProcesses } from '../../cgroup/index.ts';
import { rootfsFolder } from '../plan-mounts.ts';
import type { OciConfig, OciState } from '../spec.ts';
import { ContainerFolder, type ContainerRecord, stateOf } from '../store.ts';
import { ociVersion } from '../validate.ts';
import { load, type Runtime, statusWord } from './runtime.ts';

/** As the specification has it; but runc says `paused` where that knows only `running`. */
export type ShownState = Omit<OciState, 'status'> & {
  readonly status: OciState['status'] | 'paused';
  readonly rootfs: string;
  /** ISO 8601. */
  readonly created: string;
};

/** @throws TSV_CONTAINER_UNKNOWN */
export function state(runtime: Runtime, id: string): ShownState {
  const record = ContainerFolder.open(runtime.root, id).read();
  if (record === undefined) {
    return { ociVersion, id, status: 'creating', bundle: '', rootfs: '', created: '' };
  }
  return { ...stateOf(record), status: statusWord(record), ...more(record) };
}

const more = (record: ContainerRecord) => ({
  rootfs: rootfsFolder(record.config, record.bundle),
  created: record.created,
});

/** The configuration that a container was created with. */
export const configOf = (runtime: Runtime, id: string): OciConfig => load(runtime, id).record.config;

export interface ListedContainer {
  readonly ociVersion: string;
  readonly id: string;
  /** 0 when nothing runs. */
  readonly pid: number;
  readonly status: string;
  readonly bundle: string;
  readonly rootfs: string;
  /** ISO 8601. */
  readonly created: string;
  readonly annotations?: Readonly<Record<string, string>>;
  /** uid. */
  readonly owner: number;
}

export function list(runtime: Runtime): ListedContainer[] {
  return ContainerFolder.list(runtime.root).flatMap((id) => {
    const record = ContainerFolder.open(runtime.root, id).read();
    if (record === undefined) return [];
    const { pid = 0, bundle, annotations } = stateOf(record);
    // In runc's order: there are programs that compare the text.
    return [
      {
        ociVersion,
        id,
        pid,
        status: statusWord(record),
        bundle,
        ...more(record),
        ...(annotations === undefined ? {} : { annotations }),
        owner: record.owner,
      },
    ];
  });
}

/** Pids of all processes in the container, as the host numbers them. */
export const processes = (runtime: Runtime, id: string): number[] => cgroupProcesses(load(runtime, id).record.cgroup);
