import { endingWords, isCompleted } from '../model/ending.ts';
import type { Disk, MachineKind } from '../model/project.ts';
import type { Ending, Health, MachineState, Observed, State } from '../model/state.ts';
import { isCommand, readHolder } from '../state/lock.ts';
import { observe } from '../state/observe.ts';
import { readState } from '../state/store.ts';
import { findProjectDir, forwardText, load, noteOf, type Place, readTsfileNote, type TsfileNote } from './place.ts';

export interface MachineStatus {
  readonly machine: string;
  readonly kind: MachineKind;
  /** Of `tsv run`: it goes with its command. */
  readonly oneOff?: true;
  /** `completed`: a one-shot machine that has done its work. */
  readonly state: 'running' | 'starting' | 'paused' | 'suspended' | 'stopped' | 'completed' | 'not created' | 'broken';
  readonly detail?: string;
  readonly addresses: Readonly<Record<string, string>>;
  readonly forwards: readonly string[];
  /** Absent: it has none. */
  readonly disks?: readonly Disk[];
  readonly accel?: string;
  readonly accelReason?: string;
  readonly startedAt?: string;
  /** How it ended, unless it was stopped by a command. */
  readonly ended?: Ending;
  /** What its health check says, while it runs. */
  readonly health?: Health;
  /** By its restart policy, since the last command that started it. */
  readonly restarts?: number;
  readonly image?: ImageStatus;
  /** Steps done, of how many. */
  readonly provisioned?: string;
}

/** Of a container that was made from an image. */
export interface ImageStatus {
  /** In full. */
  readonly reference: string;
  /** Of the manifest. */
  readonly digest: string;
  /** `80/tcp`: what the image says that it listens on, forwarded or not. */
  readonly exposedPorts: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

export interface ProjectStatus {
  readonly project: string;
  readonly dir: string;
  readonly machines: readonly MachineStatus[];
  /** A command that is under way right now. */
  readonly inProgress?: { readonly pid: number; readonly command: string; readonly since: string };
}

/** One look at the state and at reality. Starts nothing, waits for nothing, writes nothing. */
export async function projectStatus(place: Place): Promise<ProjectStatus> {
  const dir = findProjectDir(place);
  const state = readState(dir);
  const observation = observe(state);
  const note = readTsfileNote(dir) ?? (await wanted(place));
  const known = new Set(Object.keys(state?.machines ?? {}));
  const holder = readHolder(dir);
  return {
    project: state?.projectName ?? note?.project ?? '',
    dir,
    machines: [
      ...Object.keys(state?.machines ?? {}).map((name) =>
        describe(state, name, observation.machines[name] ?? { state: 'absent' }, note),
      ),
      ...(note?.machines ?? [])
        .filter(({ name }) => !known.has(name))
        .map(
          ({ name, kind, forwards }): MachineStatus => ({
            machine: name,
            kind,
            state: 'not created',
            addresses: {},
            forwards,
          }),
        ),
    ].sort(inOrderOf(note?.machines.map(({ name }) => name) ?? [])),
    ...(holder !== undefined && isCommand(holder)
      ? { inProgress: { pid: holder.pid, command: holder.command, since: holder.since } }
      : {}),
  };
}

async function wanted(place: Place): Promise<TsfileNote | undefined> {
  try {
    return noteOf(await load(place));
  } catch (error) {
    // A broken or lost Tsfile does not hide what runs.
    if (readState(findProjectDir(place)) === undefined) throw error;
    return undefined;
  }
}

const inOrderOf = (names: readonly string[]) => (a: MachineStatus, b: MachineStatus) =>
  rank(names, a.machine) - rank(names, b.machine);
const rank = (names: readonly string[], name: string): number =>
  names.includes(name) ? names.indexOf(name) : names.length;

function describe(
  state: State | undefined,
  name: string,
  observed: Observed,
  note: TsfileNote | undefined,
): MachineStatus {
  const record = state?.machines[name];
  if (record === undefined)
    return { machine: name, kind: 'container', state: 'not created', addresses: {}, forwards: [] };
  const steps = note?.machines.find((machine) => machine.name === name)?.steps ?? Object.keys(record.steps);
  const done = steps.filter((step) => record.steps[step] !== undefined).length;
  return {
    machine: name,
    kind: record.spec.kind,
    ...(record.spec.oneOff === true ? { oneOff: true } : {}),
    ...situation(observed, record),
    ...(observed.state === 'stopped' && observed.ended !== undefined ? { ended: observed.ended } : {}),
    ...(observed.state === 'running' && record.health !== undefined ? { health: record.health } : {}),
    ...(record.restarts === undefined ? {} : { restarts: record.restarts }),
    addresses: Object.fromEntries(record.addresses.map(({ network, address }) => [network, address])),
    forwards: record.spec.forwards.map(forwardText),
    ...(record.spec.disks.length === 0 ? {} : { disks: record.spec.disks }),
    ...(record.accel === undefined ? {} : { accel: record.accel.accel, accelReason: record.accel.reason }),
    ...(record.startedAt === undefined || observed.state !== 'running' ? {} : { startedAt: record.startedAt }),
    ...(record.spec.image === undefined ? {} : { image: imageStatus(record) }),
    ...(steps.length === 0 ? {} : { provisioned: `${done}/${steps.length}` }),
  };
}

/** As the provider remembers it. */
export function imageStatus({ spec, boxDigest, provider }: MachineState): ImageStatus {
  const { exposedPorts = [], labels = {} } = (provider.image ?? {}) as Partial<ImageStatus>;
  return { reference: spec.box, digest: boxDigest, exposedPorts, labels };
}

const firstLine = (text: string): string => text.split('\n', 1)[0] ?? '';

function situation(
  observed: Observed,
  { ready, spec, health, paused = false, restarts = 0, suspended, restoring }: MachineState,
): { state: MachineStatus['state']; detail?: string } {
  const restarted = restarts === 0 ? [] : [`restarted ${restarts === 1 ? 'once' : `${restarts} times`}`];
  const because = (words: readonly string[]) => (words.length === 0 ? {} : { detail: words.join(', ') });
  switch (observed.state) {
    case 'absent':
      return { state: 'not created' };
    case 'stopped': {
      if (restoring !== undefined)
        return { state: 'stopped', detail: `half set back: tsv snapshot restore ${restoring}` };
      if (suspended?.memory === true) return { state: 'suspended' };
      if (suspended !== undefined) return { state: 'stopped', detail: 'halted by tsv suspend' };
      if (isCompleted(spec, observed)) return { state: 'completed' };
      const { ended } = observed;
      const why = ended === undefined ? 'ended unexpectedly' : endingWords(ended);
      return { state: 'stopped', ...because(observed.unexpectedly ? [why, ...restarted] : []) };
    }
    case 'running':
      return {
        // A one-shot machine is not waited for.
        state: paused ? 'paused' : ready || spec.oneshot === true ? 'running' : 'starting',
        ...because([...(health?.reason === undefined ? [] : [firstLine(health.reason)]), ...restarted]),
      };
    case 'broken':
      return { state: 'broken', detail: observed.reasons.join('; ') };
  }
}
