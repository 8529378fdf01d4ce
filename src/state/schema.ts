import { type Digest, isDigest } from '../model/image.ts';
import type {
  Attachment,
  ContainerUser,
  Dependency,
  Device,
  Disk,
  Forward,
  Healthcheck,
  ImageUse,
  IoLimits,
  Isolation,
  Machine,
  Network,
  Restart,
  SeccompFile,
  Share,
  Tmpfs,
  Ulimit,
  VolumeUse,
} from '../model/project.ts';
import { type SavedMachine, type Snapshot, snapshotName } from '../model/snapshot.ts';
import type {
  Ending,
  Health,
  MachineAddress,
  MachineState,
  NetworkState,
  ProcessRef,
  RunLimits,
  SandboxState,
  State,
  Suspended,
  VolumeState,
} from '../model/state.ts';
import {
  anything,
  bool,
  type Check,
  list,
  Mismatch,
  mapOf,
  matching,
  number,
  object,
  oneOf,
  text,
  wholeFrom,
} from './check.ts';
import { nameLabel, volumeName } from './paths.ts';

// Names become paths and pids get signals: those are checked closely even though the file is our own.
const name = matching(nameLabel, 'a name (letters, digits, -)');
const volume = matching(volumeName, 'the name of a volume');
const snapshot = matching(snapshotName, 'the name of a snapshot');
const path = matching(/^\//, 'an absolute path');
const tag = matching(/^tsv-[0-9a-z]{1,32}$/, 'a tag');
const digits = matching(/^[0-9]+$/, 'a number');
const port = wholeFrom(1);

const digest: Check<Digest> = (value, at) => {
  if (!isDigest(value)) throw new Mismatch(at, 'not a digest');
  return value;
};

const processRef = object<ProcessRef>({ pid: wholeFrom(2), startTime: digits, bootId: text }, {});

const network = object<Network>({ name, mode: oneOf('nat', 'isolated') }, { subnet: text });

const seccompFile = object<SeccompFile>({ path, digest: text }, {});
const seccomp: Check<Isolation['seccomp']> = (value, at) =>
  typeof value === 'string' ? oneOf('default', 'unconfined')(value, at) : seccompFile(value, at);
const numberOrText: Check<number | string> = (value, at) => (typeof value === 'string' ? value : number(value, at));
const limit: Check<number | 'unlimited'> = (value, at) => (value === 'unlimited' ? value : number(value, at));

const isolation = object<Isolation>(
  {
    privileged: bool,
    capabilities: object<Isolation['capabilities']>({ add: list(text), drop: list(text) }, {}),
    seccomp,
    devices: list(object<Device>({ host: path, container: path, access: matching(/^r?w?m?$/, 'made of r, w, m') }, {})),
    sysctls: mapOf(text),
    tmpfs: list(object<Tmpfs>({ path }, { sizeBytes: number, mode: number })),
    ulimits: list(object<Ulimit>({ name: text, soft: limit, hard: limit }, {})),
    shmBytes: number,
    readOnly: bool,
    init: bool,
  },
  {
    user: object<ContainerUser>({ user: numberOrText }, { group: numberOrText }),
    stopSignal: wholeFrom(1),
    workdir: path,
  },
);

const machine = object<Machine>(
  {
    name,
    group: name,
    kind: oneOf('vm', 'container'),
    box: text,
    hostname: text,
    memoryBytes: number,
    cpus: number,
    pids: number,
    env: mapOf(text),
    networks: list(object<Attachment>({ network: name }, { address: text })),
    forwards: list(object<Forward>({ hostAddress: text, hostPort: port, guestPort: port }, {})),
    shares: list(object<Share>({ host: path, guest: path, readonly: bool }, { uid: wholeFrom(0), gid: wholeFrom(0) })),
    disks: list(object<Disk>({ name, sizeBytes: number }, { mount: path, keep: bool })),
    dependsOn: list(object<Dependency>({ machine: name, condition: oneOf('started', 'healthy', 'completed') }, {})),
    provision: noSteps,
    bootTimeoutMs: number,
    stopTimeoutMs: number,
    accel: oneOf('auto', 'kvm', 'tcg'),
  },
  {
    image: object<ImageUse>({}, { digest }),
    cpuShares: wholeFrom(2),
    io: object<IoLimits>(
      {},
      {
        readBytesPerSecond: wholeFrom(1),
        writeBytesPerSecond: wholeFrom(1),
        readsPerSecond: wholeFrom(1),
        writesPerSecond: wholeFrom(1),
      },
    ),
    entrypoint: list(text),
    command: list(text),
    volumes: list(object<VolumeUse>({ name: volume, guest: path, readonly: bool }, {})),
    isolation,
    healthcheck: object<Healthcheck>(
      { everyMs: number, timeoutMs: number, retries: number, startPeriodMs: number },
      {
        exec: list(text),
        http: object<NonNullable<Healthcheck['http']>>({ port, path: text }, {}),
        tcp: port,
      },
    ),
    restart: object<Restart>({ when: oneOf('on-failure', 'always', 'unless-stopped') }, { most: wholeFrom(1) }),
    oneshot: bool,
    oneOff: bool,
    warm: bool,
    cache: bool,
  },
);

/** See {@link withoutProvisioning}. */
function noSteps(value: unknown, at: string): readonly [] {
  if (!Array.isArray(value) || value.length > 0) throw new Mismatch(at, 'not an empty list');
  return [];
}

const sandbox = object<SandboxState>({ holder: processRef, rooted: bool }, { dnsmasq: processRef, uplink: processRef });

const networkState = object<NetworkState>({ spec: network, subnet: text, gateway: text, bridge: text }, {});

const ending = object<Ending>(
  { at: text, why: oneOf('exited', 'killed', 'oom', 'panicked', 'lost') },
  { code: wholeFrom(0), signal: text, detail: text },
);

const health = object<Health>({ status: oneOf('starting', 'healthy', 'unhealthy'), since: text }, { reason: text });

const addresses = list(object<MachineAddress>({ network: name, address: text, mac: text, device: text }, {}));
const steps = mapOf(object<{ fingerprint: string; doneAt: string }>({ fingerprint: text, doneAt: text }, {}));
const yes: Check<true> = (value, at) => {
  if (value !== true) throw new Mismatch(at, 'not true');
  return true;
};

const machineState = object<MachineState>(
  {
    spec: machine,
    boxDigest: text,
    addresses,
    createdAt: text,
    ready: bool,
    steps,
    provider: mapOf(anything),
  },
  {
    process: processRef,
    holder: processRef,
    startedAt: text,
    ended: ending,
    restarts: wholeFrom(0),
    health,
    paused: bool,
    layers: list(matching(/^[0-9a-f]{64}\.\d+\.[0-9a-f]{8}$/, 'a layer of the provision cache')),
    suspended: object<Suspended>({ at: text, memory: bool, provider: mapOf(anything) }, {}),
    saving: tag,
    restoring: snapshot,
    behind: yes,
    movingFrom: name,
    cloning: matching(/^[0-9a-f]{8}$/, 'the tag of a copy'),
    most: object<RunLimits>({ cpus: number }, { memoryBytes: number }),
    boot: oneOf('warm', 'cold'),
    accel: object<{ accel: 'kvm' | 'tcg'; reason: string }>({ accel: oneOf('kvm', 'tcg'), reason: text }, {}),
  },
);

const version: Check<1> = (value, at) => {
  if (value !== 1) throw new Mismatch(at, 'not 1');
  return 1;
};

const state = object<State>(
  {
    version,
    serial: wholeFrom(0),
    projectId: matching(/^[0-9a-z-]{1,64}$/, 'a project id'),
    projectDir: path,
    projectName: text,
    tsfileDigest: text,
    networks: mapOf(networkState, name),
    machines: mapOf(machineState, name),
  },
  { sandbox, volumes: mapOf(object<VolumeState>({ keep: bool }, { left: bool }), volume) },
);

const savedMachine = object<SavedMachine>(
  {
    tag,
    was: oneOf('running', 'paused', 'stopped'),
    memory: bool,
    bytes: wholeFrom(0),
    without: list(text),
    spec: machine,
    boxDigest: text,
    addresses,
    steps,
    provider: mapOf(anything),
  },
  {},
);

const snapshotFile = object<Snapshot>({ version, name: snapshot, at: text, machines: mapOf(savedMachine, name) }, {});

/** Checks a parsed file of a snapshot, which is to have this name. @throws Mismatch */
export function checkSnapshot(value: unknown, wanted: string): Snapshot {
  const checked = snapshotFile(value, '');
  if (checked.name !== wanted) throw new Mismatch('name', `not ${wanted}`);
  for (const [key, { spec }] of Object.entries(checked.machines))
    if (spec.name !== key) throw new Mismatch(`machines.${key}`, `its spec is named ${spec.name}`);
  return checked;
}

/** Checks a parsed state file of the current version. @throws Mismatch with the place of the first mistake */
export function checkState(value: unknown): State {
  const checked = state(value, '');
  for (const [key, entry] of [...Object.entries(checked.machines), ...Object.entries(checked.networks)]) {
    if (entry.spec.name !== key) throw new Mismatch(key, `its spec is named ${entry.spec.name}`);
  }
  return checked;
}

/**
 * The state as it may be written: the steps of a machine's spec are left out, because their environment and
 * arguments may hold secrets. What was done is in `steps`, by name and fingerprint; what to do is in the Tsfile.
 */
export function withoutProvisioning(state: State): State {
  const entries = Object.entries(state.machines);
  if (entries.every(([, entry]) => entry.spec.provision.length === 0)) return state;
  return {
    ...state,
    machines: Object.fromEntries(
      entries.map(([key, entry]) => [key, { ...entry, spec: { ...entry.spec, provision: [] } }]),
    ),
  };
}
