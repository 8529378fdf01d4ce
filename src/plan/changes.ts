import { endingWords, isCompleted } from '../model/ending.ts';
import { type Disk, type Isolation, isolationOf, type Machine, type Network } from '../model/project.ts';
import type { MachineState, NetworkState, Observed, RunLimits } from '../model/state.ts';
import { diskChanges } from './disks.ts';

/** What has to happen to a machine so that it runs as the Tsfile says. */
export type Fate =
  | { readonly do: 'create'; readonly cause: string }
  | { readonly do: 'recreate'; readonly cause: string }
  | { readonly do: 'restart'; readonly cause: string }
  | { readonly do: 'start'; readonly cause: string }
  /** It goes on where it was suspended, as it was. */
  | { readonly do: 'resume'; readonly cause: string }
  /** It runs on, and what has changed is changed in place. */
  | { readonly do: 'adjust'; readonly cause: string }
  | { readonly do: 'keep' };

/**
 * Pure. `restartCause`: why a running machine must be restarted though its own spec is unchanged. `rerunCause`: the same for
 * a one-shot machine that has completed.
 */
export function fateOf(
  wanted: Machine,
  record: MachineState | undefined,
  observed: Observed,
  restartCause: string | undefined,
  rerunCause: string | undefined,
): Fate {
  if (record === undefined) return { do: 'create', cause: 'new' };
  if (observed.state === 'absent') return { do: 'create', cause: 'absent' };
  const recreate = whyRecreate(record.spec, wanted) ?? whyOtherImage(record, wanted);
  if (recreate !== undefined) return { do: 'recreate', cause: recreate };
  switch (observed.state) {
    case 'broken':
      return { do: 'restart', cause: observed.reasons.join(', ') };
    case 'stopped': {
      if (record.suspended?.memory === true) return { do: 'resume', cause: 'suspended' };
      if (!isCompleted(wanted, observed))
        return { do: 'start', cause: [whyStopped(observed), ...containerDisks(record.spec, wanted)].join(', ') };
      const rerun = rerunCause ?? whyRestart(record.spec, wanted);
      return rerun === undefined ? { do: 'keep' } : { do: 'start', cause: rerun };
    }
    case 'running': {
      if (restartCause !== undefined) return { do: 'restart', cause: restartCause };
      const cause = whyRestart(record.spec, wanted);
      if (cause === undefined) return { do: 'keep' };
      const why = whyNotLive(record, wanted);
      if (why === undefined) return { do: 'adjust', cause };
      return { do: 'restart', cause: why === '' ? cause : `${cause}: ${why}` };
    }
  }
}

/** Whether a machine is started; one that is kept or adjusted runs on, or has completed. */
export const isStarted = (fate: Fate | undefined): boolean => fate?.do !== 'keep' && fate?.do !== 'adjust';

/** Why a stopped machine does not run. */
export function whyStopped({ unexpectedly, ended }: Extract<Observed, { state: 'stopped' }>): string {
  if (!unexpectedly) return 'not running';
  return ended === undefined ? 'ended unexpectedly' : endingWords(ended);
}

/** Why a machine cannot become the wanted one without being made anew; undefined when it can. */
export function whyRecreate(before: Machine, after: Machine): string | undefined {
  if (before.oneOff === true && after.oneOff !== true) return 'in the place of what tsv run ran';
  if (before.kind !== after.kind) return 'kind changed';
  if (before.box !== after.box) return after.image === undefined ? 'box changed' : 'image changed';
  // A container's disks stay when it is made anew.
  if (before.kind === 'container') return undefined;
  return before.disks.map((disk) => lostDisk(disk, after.disks)).find((reason) => reason !== undefined);
}

/** Tsfile.lock has another image for the same reference: `tsv update` took it. */
export const whyOtherImage = (record: MachineState, { image }: Machine): string | undefined =>
  image?.digest === undefined || image.digest === record.boxDigest ? undefined : 'image updated';

function lostDisk(disk: Disk, after: readonly Disk[]): string | undefined {
  const same = after.find(({ name }) => name === disk.name);
  if (same === undefined) return `disk ${disk.name} removed`;
  return same.sizeBytes < disk.sizeBytes ? `disk ${disk.name} shrunk` : undefined;
}

/** What a machine is started with, with the word that the plan shows for it. Of these, limits may also change as it runs. */
const fixedAtStart: readonly (readonly [keyof Machine, string])[] = [
  ['memoryBytes', 'memory'],
  ['cpus', 'cpus'],
  ['pids', 'pids'],
  ['cpuShares', 'cpu_shares'],
  ['io', 'io'],
  ['accel', 'accel'],
  ['hostname', 'hostname'],
  ['entrypoint', 'entrypoint'],
  ['command', 'command'],
  ['env', 'env'],
  ['networks', 'networks'],
  ['shares', 'shares'],
  ['volumes', 'volumes'],
  ['disks', 'disks'],
];

/** All of it: a container's process is started anew over the same file system. */
const isolationWords: Readonly<Record<keyof Isolation, string>> = {
  privileged: 'privileged',
  capabilities: 'capabilities',
  seccomp: 'seccomp',
  devices: 'devices',
  sysctls: 'sysctls',
  tmpfs: 'tmpfs',
  ulimits: 'ulimits',
  shmBytes: 'shm_size',
  readOnly: 'read_only',
  user: 'user',
  init: 'init',
  stopSignal: 'stop_signal',
  workdir: 'workdir',
};

const changedWords = (before: Machine, after: Machine): readonly string[] =>
  fixedAtStart
    .filter(([key]) => !sameJson(before[key], after[key]) && !(after.kind === 'container' && key === 'disks'))
    .map(([, word]) => word);

/** Why a machine has to be stopped and started, e.g. `memory, env changed`; undefined when it need not. */
export function whyRestart(before: Machine, after: Machine): string | undefined {
  const all = [...changedWords(before, after), ...(after.kind === 'container' ? changedIsolation(before, after) : [])];
  const causes = [...(all.length === 0 ? [] : [`${all.join(', ')} changed`]), ...containerDisks(before, after)];
  return causes.length === 0 ? undefined : causes.join(', ');
}

const containerDisks = (before: Machine, after: Machine): string[] =>
  after.kind === 'container' ? diskChanges(before.disks, after.disks) : [];

/**
 * Why limits cannot change as the machine runs, for people; '' where a plan has nothing to add; undefined: they can.
 * The guest of a virtual machine gives memory back and takes it again, of that which it began with; it gets more CPUs.
 */
function whyNotLive({ spec, most }: MachineState, wanted: Machine): string | undefined {
  if (whyRestart(withLimits(spec, wanted), wanted) !== undefined) return '';
  if (wanted.kind === 'container') return undefined;
  if (most === undefined) return '';
  const reasons = [
    ...whyOtherMemory(spec, most, wanted),
    ...(wanted.cpus > most.cpus ? [`it was started with room for ${most.cpus} CPUs`] : []),
    ...(wanted.cpus < spec.cpus ? ['a running system gives no CPU back'] : []),
  ];
  return reasons.length === 0 ? undefined : reasons.join(', ');
}

function whyOtherMemory(spec: Machine, { memoryBytes }: RunLimits, wanted: Machine): readonly string[] {
  if (memoryBytes === undefined)
    return wanted.memoryBytes === spec.memoryBytes ? [] : ['it shares its memory with the template of its warm start'];
  return wanted.memoryBytes > memoryBytes ? [`it was started with ${memoryBytes / 2 ** 20}M`] : [];
}

/** `before` with the limits of `after`: what a machine can take over while it runs. */
export function withLimits(before: Machine, after: Machine): Machine {
  const { memoryBytes, cpus, pids, cpuShares, io } = after;
  const { cpuShares: _, io: had, ...rest } = before;
  // Whether there are any is decided at the start: the container has a cgroup for them or has not.
  const taken = had === undefined || io === undefined ? had : io;
  return {
    ...rest,
    memoryBytes,
    cpus,
    pids,
    ...(cpuShares === undefined ? {} : { cpuShares }),
    ...(taken === undefined ? {} : { io: taken }),
  };
}

/** Limits that differ, by their keys in the Tsfile. */
export const changedLimits = (before: Machine, after: Machine): readonly string[] =>
  changedWords(before, withLimits(before, after));

function changedIsolation(before: Machine, after: Machine): string[] {
  const [old, wanted] = [isolationOf(before), isolationOf(after)];
  // Whether there is an init follows from the command, so a changed command says it all.
  const sameCommand = sameJson(before.command, after.command);
  return (Object.keys(isolationWords) as (keyof Isolation)[])
    .filter((key) => !sameJson(old[key], wanted[key]) && (key !== 'init' || sameCommand))
    .map((key) => isolationWords[key]);
}

/** What a machine takes over as it is, running or not. */
const takenLive = ['dependsOn', 'bootTimeoutMs', 'stopTimeoutMs', 'healthcheck', 'restart', 'oneshot', 'warm'] as const;

/** `before` with what {@link takenLive} says of `after`. The same object when that changes nothing. */
export function withLive(before: Machine, after: Machine): Machine {
  if (takenLive.every((key) => sameJson(before[key], after[key]))) return before;
  const { healthcheck: _, restart: __, oneshot: ___, warm: ____, ...rest } = before;
  const wanted = takenLive.flatMap((key) => (after[key] === undefined ? [] : [[key, after[key]] as const]));
  return { ...rest, ...Object.fromEntries(wanted) };
}

export function forwardsChanged(before: Machine, after: Machine): boolean {
  return !sameJson(before.forwards, after.forwards);
}

/** Why a network that the state knows must be set up again; undefined when it is as wanted. */
export function whyNetworkChanged(before: NetworkState, after: Network): string | undefined {
  if (before.spec.mode !== after.mode) return 'mode changed';
  // Without a wish any subnet is right, so the one that was chosen stays.
  return after.subnet === undefined || after.subnet === before.subnet ? undefined : 'subnet changed';
}

/** Equality of plain JSON; the order of keys does not count, an undefined field is an absent one. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((item, index) => sameJson(item, b[index]));
  }
  const left = new Map(Object.entries(a).filter(([, value]) => value !== undefined));
  const right = new Map(Object.entries(b).filter(([, value]) => value !== undefined));
  return (
    left.size === right.size && [...left].every(([key, value]) => right.has(key) && sameJson(value, right.get(key)))
  );
}

/**
 * What a machine occupies while it exists or runs: host ports and addresses. A machine that takes one over can be
 * made only after its former owner has let go.
 */
export function claimsOf(spec: Machine, record?: MachineState): ReadonlySet<string> {
  return new Set([
    ...spec.forwards.map(({ hostPort }) => `port ${hostPort}`),
    ...spec.networks.flatMap(({ network, address }) =>
      address === undefined ? [] : [`address ${network} ${address}`],
    ),
    ...(record?.addresses ?? []).map(({ network, address }) => `address ${network} ${address}`),
  ]);
}
