import { lstatSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { MachineHappening } from '../model/machine-event.ts';
import type { Machine } from '../model/project.ts';
import type { MachineState, State } from '../model/state.ts';
import { keptDisksDir } from '../state/paths.ts';
import { renameInSnapshots } from '../state/snapshots.ts';
import type { StateStore } from '../state/store.ts';
import { syncFolder } from '../sys/sync-folder.ts';
import { type MachinePlaces, recordOf } from './machines.ts';

/*
 * A machine's name is in two places, which cannot change at once:
 *
 *   state.json      {web: …}     {front: …, movingFrom: web}                       {front: …}
 *   machines/       web/         web/                          front/              front/
 *                          cut: 1                         cut: 2
 *
 * After either cut the next agent sees from `movingFrom` what was begun, and finishes it before it does anything else. Between
 * the cuts nothing runs, and who only looks finds no folder, which is as if the machine had printed nothing.
 */

export interface RenameParts {
  readonly store: StateStore;
  readonly places: Pick<MachinePlaces, 'machineDir' | 'runDir'>;
  happened(machine: string, event: MachineHappening): void;
}

/**
 * Renames a machine that does not run to the name that `wanted` has. As it was where that fails.
 * @throws TSV_USAGE where files of another machine are in the way, TSV_STATE_WRITE, the rename(2) error
 */
export async function renameMachine(parts: RenameParts, from: string, wanted: Machine): Promise<void> {
  const { store, places } = parts;
  const before = recordOf(store.current, from);
  const to = wanted.name;
  const folders = { old: places.machineDir(from), new: places.machineDir(to) };
  for (const folder of [folders.new, keptDisksDir(folders.new)]) refuseOccupied(folder, to);
  try {
    await store.update((state) => replaced(state, from, renamedRecord(before, wanted, folders)));
    moveFolders(folders);
  } catch (error) {
    // Its file may not be written this time either: then it says what was begun, and that is finished later.
    await store.update((state) => replaced(state, to, before)).catch(() => {});
    throw error;
  }
  await finish(parts, from, to);
}

/** What an agent that was killed has begun. What cannot be finished is told, and tried again by the next one. */
export async function finishRenames(parts: RenameParts, warn: (text: string) => void): Promise<void> {
  const { machines } = parts.store.current;
  for (const [name, { movingFrom }] of Object.entries(machines)) {
    if (movingFrom === undefined) continue;
    try {
      // Somebody else of that name, made since, has a folder of their own.
      if (machines[movingFrom] === undefined)
        moveFolders({ old: parts.places.machineDir(movingFrom), new: parts.places.machineDir(name) });
      await finish(parts, movingFrom, name);
    } catch (error) {
      warn(
        `${name}: its files are still in the folder of ${movingFrom}: ${error instanceof Error ? error.message : error}`,
      );
    }
  }
}

async function finish({ store, places, happened }: RenameParts, from: string, to: string): Promise<void> {
  if (store.current.machines[from] === undefined) rmSync(places.runDir(from), { recursive: true, force: true });
  await store.update((state) => {
    const { movingFrom: _, ...record } = recordOf(state, to);
    return { ...state, machines: { ...state.machines, [to]: record } };
  });
  await renameInSnapshots(store.current.projectDir, from, to);
  happened(to, { type: 'renamed', from });
}

/** Pure. The machine under its new name: the same but for that, and for paths into its folder. */
export function renamedRecord(
  record: MachineState,
  { name, group, hostname }: Pick<Machine, 'name' | 'group' | 'hostname'>,
  folders: { readonly old: string; readonly new: string },
): MachineState {
  const moved = (value: unknown) =>
    typeof value === 'string' && value.startsWith(`${folders.old}/`)
      ? `${folders.new}${value.slice(folders.old.length)}`
      : value;
  return {
    ...record,
    spec: { ...record.spec, name, group, hostname },
    movingFrom: record.spec.name,
    provider: Object.fromEntries(Object.entries(record.provider).map(([key, value]) => [key, moved(value)])),
  };
}

/** Pure. `record` in the place of `from`, and under its own name wherever others depend on it. */
export function replaced(state: State, from: string, record: MachineState): State {
  const to = record.spec.name;
  const machines = Object.entries(state.machines).map(([name, other]): [string, MachineState] => {
    if (name === from) return [to, record];
    const dependsOn = other.spec.dependsOn.map((one) => (one.machine === from ? { ...one, machine: to } : one));
    return [name, { ...other, spec: { ...other.spec, dependsOn } }];
  });
  return { ...state, machines: Object.fromEntries(machines) };
}

/** With the disks that are to be kept; both or none. Already moved: success. Durable before the state forgets where it was. */
function moveFolders(folders: { readonly old: string; readonly new: string }): void {
  const moved = moveFolder(folders.old, folders.new);
  try {
    moveFolder(keptDisksDir(folders.old), keptDisksDir(folders.new));
  } catch (error) {
    if (moved) moveFolder(folders.new, folders.old);
    throw error;
  }
}

function moveFolder(from: string, to: string): boolean {
  if (lstatSync(from, { throwIfNoEntry: false }) === undefined) return false;
  renameSync(from, to);
  syncFolder(dirname(to));
  return true;
}

/** rename(2) replaces an empty folder only. */
export function refuseOccupied(folder: string, name: string): void {
  if (lstatSync(folder, { throwIfNoEntry: false }) === undefined || readdirSync(folder).length === 0) return;
  throw new TsvError('TSV_USAGE', `there are files of an earlier ${name}`, {
    details: [`in ${folder}`],
    hint: 'move that folder away if they are not needed any more',
  });
}
