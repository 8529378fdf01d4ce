import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { MachineHappening } from '../model/machine-event.ts';
import type { Attachment, Machine } from '../model/project.ts';
import type { MachineState, State } from '../model/state.ts';
import { keptDisksDir, projectPaths } from '../state/paths.ts';
import { mustRun } from '../sys/command.ts';
import { syncFolder } from '../sys/sync-folder.ts';
import { newRecord, without } from './machines.ts';
import type { Records } from './records.ts';
import { refuseOccupied } from './rename.ts';

/*
 * A copy gets its name when it is complete, and on disk:
 *
 *   state.json                     {front: …, cloning: TAG}               {front: …}
 *   machines/       front.TAG/     front.TAG/     front/                  front/
 *            cut: 1         cut: 2         cut: 3         cut: 4
 *
 * After the first cut the next agent removes what no record knows; after the others it finishes. What a machine is to be of its
 * own, its keys above all, `create` makes of it, as of every new one.
 */

export interface CloneParts {
  readonly records: Pick<Records, 'store' | 'places' | 'provider' | 'context' | 'of'>;
  happened(machine: string, event: MachineHappening): void;
}

const tagBytes = 4;
/** `front.1a2b3c4d`: no machine is called so. */
const stagingName = /^([a-z0-9-]+)\.([0-9a-f]{8})$/;
const stagingOf = (folder: string, tag: string): string => `${folder}.${tag}`;

/**
 * Makes `wanted` as a copy of a machine that does not run. Nothing of it is there when that fails, or is interrupted.
 * @throws TSV_CLONE, TSV_USAGE where files are in the way, TSV_STATE_WRITE, what the machine's box says where it is gone
 */
export async function cloneMachine(
  parts: CloneParts,
  from: string,
  wanted: Machine,
  signal: AbortSignal,
): Promise<void> {
  const { records } = parts;
  const { store, places } = records;
  const { name } = wanted;
  const record = records.of(from);
  const provider = records.provider(record);
  if ((await provider.observe(records.context(from))).state !== 'stopped')
    throw new TsvError('TSV_USAGE', `${from} is not as a halt leaves it`, {
      hint: `tsv up ${from} && tsv halt ${from}`,
    });
  // Without its box the copy would be of no use.
  places.box(record.spec, record.boxDigest, record.layers ?? []);
  const folder = places.machineDir(name);
  for (const place of [folder, keptDisksDir(folder)]) refuseOccupied(place, name);
  const tag = randomBytes(tagBytes).toString('hex');
  const staging = stagingOf(folder, tag);
  let isMoved = false;
  try {
    mkdirSync(staging, { mode: 0o700 });
    await provider.clone(records.context(from), { folder: staging, wanted, signal });
    await mustRun(['sync', '-f', '--', staging], { code: 'TSV_CLONE', message: `${name} could not be written` });
    signal.throwIfAborted();
    await store.update((state) => withMachine(state, { ...copiedRecord(state, record, wanted), cloning: tag }));
    move(staging, folder);
    isMoved = true;
    await finish(parts, name);
  } catch (error) {
    // What cannot be removed now, the next agent removes.
    for (const path of [staging, ...(isMoved ? [folder, places.runDir(name)] : [])]) removeQuietly(path);
    await store
      .update((state) =>
        state.machines[name]?.cloning === undefined ? state : { ...state, machines: without(state.machines, name) },
      )
      .catch(() => {});
    throw error;
  }
  parts.happened(name, { type: 'cloned', from });
}

/** What an agent that was killed has begun. What cannot be finished is told, and tried again by the next one. */
export async function finishClones(parts: CloneParts, warn: (text: string) => void): Promise<void> {
  const { store, places } = parts.records;
  const copies = Object.entries(store.current.machines).flatMap(([name, { cloning }]) =>
    cloning === undefined ? [] : [{ name, cloning }],
  );
  const told = (name: string, error: unknown) =>
    warn(`${name}: its copy is not in its place: ${error instanceof Error ? error.message : error}`);
  for (const { name, cloning } of copies) {
    const folder = places.machineDir(name);
    const staging = stagingOf(folder, cloning);
    try {
      if (existsSync(staging)) move(staging, folder);
      // Gone meanwhile, or the disk was full: there is no such machine.
      if (!existsSync(folder)) await store.update((state) => ({ ...state, machines: without(state.machines, name) }));
      else {
        await finish(parts, name);
        parts.happened(name, { type: 'created' });
      }
    } catch (error) {
      told(name, error);
    }
  }
  const { machinesDir } = projectPaths(store.current.projectDir);
  const wanted = new Set(copies.map(({ name, cloning }) => stagingOf(name, cloning)));
  for (const name of existsSync(machinesDir) ? readdirSync(machinesDir) : [])
    if (stagingName.test(name) && !wanted.has(name)) removeQuietly(join(machinesDir, name));
}

/** The folder is in its place. */
async function finish({ records }: CloneParts, name: string): Promise<void> {
  const provider = await records.provider(records.of(name)).create(records.context(name));
  await records.store.update((state) => {
    const record = state.machines[name];
    if (record === undefined) return state;
    const { cloning: _, ...known } = record;
    return withMachine(state, { ...known, provider });
  });
}

/**
 * Pure. A new machine, with what was done to the one that it is a copy of. It is on networks that are there: where one is not, on
 * those of the other, until the next `up` makes that.
 */
export function copiedRecord(
  state: State,
  { spec, boxDigest, steps, layers }: MachineState,
  wanted: Machine,
): MachineState {
  const isThere = ({ network }: Attachment) => state.networks[network] !== undefined;
  const networks = wanted.networks.every(isThere)
    ? wanted.networks
    : spec.networks.filter(isThere).map(({ network }) => ({ network }));
  return {
    ...newRecord(state, { ...wanted, networks }, boxDigest),
    steps,
    ...(layers === undefined ? {} : { layers }),
  };
}

/** A machine whose files are still elsewhere would begin without them. */
export const halfCloned = (name: string): TsvError =>
  new TsvError('TSV_CLONE', `${name} was being made as a copy when that was cut short`, {
    details: ['its files are not in its folder yet, and the log of the agent says why'],
    hint: `tsv destroy ${name}   # and clone it again`,
  });

const withMachine = (state: State, record: MachineState): State => ({
  ...state,
  machines: { ...state.machines, [record.spec.name]: record },
});

function move(staging: string, folder: string): void {
  renameSync(staging, folder);
  syncFolder(dirname(folder));
}

/** A copy that was interrupted may still be writing there. */
function removeQuietly(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true, maxRetries: 5 });
  } catch {
    // The next agent tries again.
  }
}
