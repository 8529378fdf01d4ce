import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { ContainerDefaults } from '../model/image.ts';
import {
  type Dependency,
  type Disk,
  type Forward,
  type Healthcheck,
  type Isolation,
  isolationOf,
  type Machine,
  type MachineKind,
  type NetworkMode,
  type Restart,
  type Share,
  type VolumeUse,
} from '../model/project.ts';
import type { Ending, Health, MachineState, Observed, State } from '../model/state.ts';
import type { OciConfig } from '../oci/spec.ts';
import { observe } from '../state/observe.ts';
import { dataDiskFile, diskImage, projectPaths, storeDir } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { readUserMap } from '../sys/userns.ts';
import { knownMachine } from './machine.ts';
import { findProjectDir, type Place } from './place.ts';
import { sourceOf } from './source.ts';
import { type ImageStatus, imageStatus, type MachineStatus, projectStatus } from './status.ts';

/** All that is known of a machine that exists, as `tsv inspect` prints it. */
export interface MachineDetails {
  readonly name: string;
  /** Its name in the Tsfile; another one only for replicas. */
  readonly group: string;
  readonly project: string;
  readonly projectDir: string;
  readonly kind: MachineKind;
  readonly hostname: string;
  readonly createdAt: string;
  /** The word of `tsv status`, and why, where that is not plain. */
  readonly state: MachineStatus['state'];
  readonly detail?: string;
  /** While it runs: the container's process 1 or QEMU, by its number on the host. */
  readonly process?: { readonly pid: number; readonly since?: string };
  readonly ended?: Ending;
  readonly restarts: number;
  readonly health?: Health;
  readonly paused: boolean;
  readonly image?: ImageStatus;
  readonly box?: { readonly name: string; readonly digest: string };
  /** Containers. What process 1 was started with last: these two behind each other, by these variables, user and folder. */
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Numbers, `UID:GID`. */
  readonly user?: string;
  readonly workdir?: string;
  readonly networks: Readonly<Record<string, NetworkDetails>>;
  readonly forwards: readonly ForwardDetails[];
  readonly shares: readonly Share[];
  readonly volumes: readonly (VolumeUse & { readonly host: string })[];
  readonly disks: readonly DiskDetails[];
  readonly limits: Pick<Machine, 'memoryBytes' | 'cpus'> & Partial<Pick<Machine, 'pids' | 'cpuShares' | 'io'>>;
  readonly isolation?: Isolation;
  readonly accel?: MachineState['accel'];
  readonly boot?: MachineState['boot'];
  readonly dependsOn: readonly Dependency[];
  readonly healthcheck?: Healthcheck;
  readonly restart?: Restart;
  readonly oneshot: boolean;
  /** Steps that succeeded, in the order in which they did. */
  readonly provisioning: readonly { readonly step: string; readonly doneAt: string }[];
  readonly paths: {
    readonly folder: string;
    readonly console: string;
    /** Containers that run: their files as they see them. */
    readonly root?: string;
    /** Containers: what they have changed of their box or image. */
    readonly changes?: string;
    /** VMs: an overlay of the box's disk. */
    readonly disk?: string;
  };
  /** Private key for `ssh -i`; the file's name. */
  readonly identityFile?: string;
  /** Its SSH server's public key. */
  readonly hostKey?: string;
}

export interface NetworkDetails {
  readonly address: string;
  readonly mac: string;
  /** Interface in the machine. */
  readonly device: string;
  readonly subnet?: string;
  readonly gateway?: string;
  readonly mode?: NetworkMode;
}

export interface DiskDetails extends Disk {
  /** Its image on the host. */
  readonly file: string;
  /** What that takes there; absent while it is not made. */
  readonly usedBytes?: number;
}

export interface ForwardDetails extends Forward {
  /** `127.0.0.1:8080`. */
  readonly host: string;
}

/**
 * By names or replica groups, each machine once. Needs no agent.
 * @throws TSV_UNKNOWN_MACHINE, and TSV_NOT_RUNNING for one that is only in the Tsfile
 */
export async function inspectMachines(place: Place, names: readonly string[]): Promise<readonly MachineDetails[]> {
  for (const name of names) await assertExists(place, name);
  const projectDir = findProjectDir(place);
  const state = readState(projectDir);
  if (state === undefined) return []; // destroyed a moment ago
  const observation = observe(state);
  const { machines } = await projectStatus(place);
  const chosen = names.flatMap((name) => Object.keys(state.machines).filter((key) => isMeant(state, key, name)));
  return [...new Set(chosen)].flatMap((name) => {
    const record = state.machines[name];
    const status = machines.find(({ machine }) => machine === name);
    if (record === undefined || status === undefined) return [];
    const observed = observation.machines[name] ?? { state: 'absent' };
    return [describe(place, { ...state, projectDir }, record, observed, status)]; // the folder may have been moved
  });
}

const isMeant = (state: State, key: string, name: string): boolean =>
  key === name || state.machines[key]?.spec.group === name;

async function assertExists(place: Place, name: string): Promise<void> {
  const state = readState(findProjectDir(place));
  if (state === undefined || !Object.keys(state.machines).some((key) => isMeant(state, key, name)))
    await knownMachine(place, name);
}

function describe(
  place: Place,
  state: State,
  record: MachineState,
  observed: Observed,
  status: MachineStatus,
): MachineDetails {
  const { spec, provider } = record;
  const isContainer = spec.kind === 'container';
  const paths = projectPaths(state.projectDir);
  const folder = paths.machineDir(spec.name);
  const ended = (observed.state === 'stopped' ? observed.ended : undefined) ?? record.ended;
  const running = observed.state === 'running' ? observed.process : undefined;
  const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
  return defined({
    name: spec.name,
    group: spec.group,
    project: state.projectName,
    projectDir: state.projectDir,
    kind: spec.kind,
    hostname: spec.hostname,
    createdAt: record.createdAt,
    state: status.state,
    detail: status.detail,
    process: running === undefined ? undefined : defined({ pid: running.pid, since: record.startedAt }),
    ended,
    restarts: record.restarts ?? 0,
    health: running === undefined ? undefined : record.health,
    paused: record.paused === true && running !== undefined,
    image: spec.image === undefined ? undefined : imageStatus(record),
    box: spec.image === undefined ? { name: spec.box, digest: record.boxDigest } : undefined,
    ...(isContainer ? runOf(place, record, folder) : { env: spec.env }),
    networks: networksOf(state, record),
    forwards: spec.forwards.map((forward) => ({ host: `${forward.hostAddress}:${forward.hostPort}`, ...forward })),
    shares: spec.shares,
    volumes: (spec.volumes ?? []).map((use) => ({ host: paths.volumeDir(use.name), ...use })),
    disks: spec.disks.map((disk) => diskDetails(spec.kind, folder, disk)),
    limits: defined({
      memoryBytes: spec.memoryBytes,
      cpus: spec.cpus,
      pids: isContainer ? spec.pids : undefined,
      cpuShares: spec.cpuShares,
      io: spec.io,
    }),
    isolation: isContainer ? isolationOf(spec) : undefined,
    accel: record.accel,
    boot: record.boot,
    dependsOn: spec.dependsOn,
    healthcheck: spec.healthcheck,
    restart: spec.restart,
    oneshot: spec.oneshot === true,
    provisioning: Object.entries(record.steps)
      .map(([step, { doneAt }]) => ({ step, doneAt }))
      .sort((a, b) => a.doneAt.localeCompare(b.doneAt)),
    paths: defined({
      folder,
      console: join(folder, 'console.log'),
      root: isContainer && running !== undefined ? `/proc/${running.pid}/root` : undefined,
      changes: isContainer ? join(folder, 'upper') : undefined,
      disk: isContainer ? undefined : join(folder, 'disk.qcow2'),
    }),
    identityFile: text(provider.identityFile),
    hostKey: text(provider.hostKey),
  });
}

/** The object without members that are undefined. */
function defined<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}

function networksOf(state: State, { addresses }: MachineState): Record<string, NetworkDetails> {
  return Object.fromEntries(
    addresses.map(({ network, address, mac, device }) => {
      const { subnet, gateway, spec } = state.networks[network] ?? {};
      return [network, defined({ address, mac, device, subnet, gateway, mode: spec?.mode })];
    }),
  );
}

function diskDetails(kind: MachineKind, folder: string, disk: Disk): DiskDetails {
  const file = kind === 'container' ? diskImage(folder, disk) : dataDiskFile(folder, disk);
  const stat = statSync(file, { throwIfNoEntry: false });
  // stat(2): in pieces of 512 bytes, whatever the file system's are.
  return defined({ ...disk, file, usedBytes: stat === undefined ? undefined : stat.blocks * 512 }) as DiskDetails;
}

type Run = Pick<MachineDetails, 'entrypoint' | 'command' | 'env' | 'user' | 'workdir'>;

/** As the last start had it; before the first one, as the Tsfile and the image say. */
function runOf(place: Place, record: MachineState, folder: string): Run {
  const { spec } = record;
  const image = imageDefaults(place, record);
  const entrypoint = spec.entrypoint ?? image?.entrypoint ?? [];
  const command = spec.command ?? (spec.entrypoint === undefined ? image?.cmd : undefined) ?? [];
  const started = readConfig(folder)?.process;
  if (started === undefined) return { entrypoint, command, env: spec.env };
  const { args, env = [], user, cwd } = started;
  const isSame = entrypoint.every((word, index) => args[index] === word);
  return {
    entrypoint: isSame ? entrypoint : [],
    command: isSame ? args.slice(entrypoint.length) : args,
    env: Object.fromEntries(env.map(variable)),
    user: `${user?.uid ?? 0}:${user?.gid ?? 0}`,
    workdir: cwd,
  };
}

function variable(entry: string): [name: string, value: string] {
  const at = entry.indexOf('=');
  return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
}

/** What the provider wrote at the last start. */
function readConfig(folder: string): OciConfig | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as OciConfig;
  } catch (error) {
    // Never started, or torn by a kill.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** The image may have left the store since. */
function imageDefaults(place: Place, { spec, boxDigest }: MachineState): ContainerDefaults | undefined {
  if (spec.image === undefined) return undefined;
  try {
    return sourceOf({ storeDir: storeDir(place.env), map: readUserMap() }, spec, boxDigest).defaults;
  } catch (error) {
    if (error instanceof TsvError) return undefined;
    throw error;
  }
}
