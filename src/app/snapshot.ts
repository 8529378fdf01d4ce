import type { RunResult } from '../agent/protocol.ts';
import { TsvError } from '../model/errors.ts';
import type { MachineKind } from '../model/project.ts';
import { pushedPrefix, type SavedMachine, type Snapshot, stampName } from '../model/snapshot.ts';
import { whyRestart } from '../plan/changes.ts';
import { reconcile } from '../plan/reconcile.ts';
import type { SnapshotCommand } from '../plan/snapshots.ts';
import { resolveTargets } from '../plan/targets.ts';
import { observe } from '../state/observe.ts';
import { readSnapshots } from '../state/snapshots.ts';
import { readState } from '../state/store.ts';
import { requireHost } from './host.ts';
import { findProjectDir, load } from './place.ts';
import { type RunOptions, viaAgent } from './run.ts';

/** A snapshot, as `tsv snapshot list` has it. */
export interface ListedSnapshot {
  readonly snapshot: string;
  /** ISO 8601. */
  readonly at: string;
  /** By `push`. */
  readonly pushed: boolean;
  /** What it takes up besides what disks share. */
  readonly bytes: number;
  readonly machines: readonly (Pick<SavedMachine, 'was' | 'memory' | 'bytes' | 'without'> & {
    readonly machine: string;
    readonly kind: MachineKind;
  })[];
}

/** The project's snapshots, the oldest first; with names: those that have one of these machines. Needs no agent. */
export function listSnapshots({ place, targets }: Pick<RunOptions, 'place' | 'targets'>): readonly ListedSnapshot[] {
  const all = readSnapshots(findProjectDir(place)).map(listed);
  if (targets.length === 0) return all;
  const specs = Object.values(readState(findProjectDir(place))?.machines ?? {}).map(({ spec }) => spec);
  const chosen = resolveTargets(targets, specs);
  return all.filter(({ machines }) => machines.some(({ machine }) => chosen.includes(machine)));
}

const listed = ({ name, at, machines }: Snapshot): ListedSnapshot => ({
  snapshot: name,
  at,
  pushed: name.startsWith(pushedPrefix),
  bytes: Object.values(machines).reduce((sum, { bytes }) => sum + bytes, 0),
  machines: Object.entries(machines).map(([machine, { spec, was, memory, bytes, without }]) => ({
    machine,
    kind: spec.kind,
    was,
    memory,
    bytes,
    without,
  })),
});

/** @returns its name @throws TSV_USAGE, TSV_UNKNOWN_MACHINE, TSV_SNAPSHOT */
export async function saveSnapshot(
  options: RunOptions & { readonly name?: string; readonly replace: boolean; readonly pushed: boolean },
): Promise<string> {
  const { place, targets, replace, pushed } = options;
  const taken = readSnapshots(findProjectDir(place)).map((snapshot) => snapshot.name);
  const name = options.name ?? freeName(`${pushed ? pushedPrefix : ''}${stampName(new Date())}`, taken);
  await change(options, { command: 'snapshot save', name, targets, replace, pushed });
  tellWhatIsNotThere(options, name);
  return name;
}

function tellWhatIsNotThere({ place, emit }: RunOptions, name: string): void {
  const saved = readSnapshots(findProjectDir(place)).find((snapshot) => snapshot.name === name);
  const machines = Object.entries(saved?.machines ?? {});
  const anew = machines.filter(([, { memory, was }]) => !memory && was !== 'stopped').map(([machine]) => machine);
  if (anew.length > 0)
    emit({
      type: 'notice',
      text: `files of ${anew.join(', ')} are in it, and no processes: those begin anew at restore`,
    });
  for (const [machine, { without }] of machines)
    if (without.length > 0) emit({ type: 'notice', machine, text: `not in it: ${without.join(', ')}` });
}

function freeName(wanted: string, taken: readonly string[]): string {
  for (let n = 1; ; n++) {
    const name = n === 1 ? wanted : `${wanted}-${n}`;
    if (!taken.includes(name)) return name;
  }
}

/** @param options `drop`: it is deleted afterwards @throws TSV_USAGE, TSV_UNKNOWN_MACHINE, TSV_SNAPSHOT */
export async function restoreSnapshot(
  options: RunOptions & { readonly name: string; readonly drop: boolean; readonly disksOnly: boolean },
): Promise<void> {
  const { name, targets, drop, disksOnly } = options;
  const { plan } = await change(options, { command: 'snapshot restore', name, targets, drop, disksOnly });
  const names = plan.nodes.flatMap(({ action }) => (action.do === 'snapshot.restore' ? action.machines : []));
  await tellChanges(options, names);
}

/** The snapshot that was pushed last. @throws TSV_USAGE */
export function lastPushed({ place }: Pick<RunOptions, 'place'>): string {
  const pushed = readSnapshots(findProjectDir(place)).filter(({ name }) => name.startsWith(pushedPrefix));
  const last = pushed.at(-1);
  if (last === undefined)
    throw new TsvError('TSV_USAGE', 'there is nothing to pop: no snapshot was pushed', { hint: 'tsv snapshot list' });
  return last.name;
}

/** @throws TSV_USAGE for names that are none, TSV_SNAPSHOT */
export async function deleteSnapshots(options: RunOptions): Promise<void> {
  await change(options, { command: 'snapshot delete', targets: options.targets });
}

async function change(options: RunOptions, command: SnapshotCommand): Promise<RunResult> {
  const dir = findProjectDir(options.place);
  const state = readState(dir);
  // No agent is started for what it would refuse.
  const plan = reconcile({ ...command, observation: observe(state) });
  const starts = plan.nodes.flatMap(({ action }) => (action.do === 'machine.wait' ? [action.machine] : []));
  requireHost(starts.flatMap((name) => state?.machines[name]?.spec.kind ?? []));
  return viaAgent(options, dir, state?.projectName ?? 'project', command);
}

/** What machines were is not always what the Tsfile says. A Tsfile that cannot be read says nothing. */
async function tellChanges({ place, emit }: RunOptions, names: readonly string[]): Promise<void> {
  const project = await load(place).catch(() => undefined);
  const state = readState(findProjectDir(place));
  for (const name of names) {
    const [wanted, is] = [project?.machines.find((machine) => machine.name === name), state?.machines[name]?.spec];
    const why = wanted === undefined || is === undefined ? undefined : whyRestart(is, wanted);
    if (why !== undefined)
      emit({
        type: 'notice',
        machine: name,
        text: `it is as it was then (${why} since): tsv up takes over what the Tsfile says now`,
      });
  }
}
