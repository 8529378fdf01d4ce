import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readLock } from '../lockfile/file.ts';
import { TsvError, toTsvError } from '../model/errors.ts';
import type { Digest } from '../model/image.ts';
import { observe } from '../state/observe.ts';
import { projectPaths, vmDiskFile } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { foldersBeneath } from '../store/frozen.ts';
import { rememberedProjects } from '../store/remembered.ts';
import type { MachineUse, Uses } from '../store/upkeep/uses.ts';
import { load, type Place, tsfileNames } from './place.ts';

/**
 * The machines that exist in the projects of this store, and what they were made from. Reads states and /proc.
 * @throws TSV_STORE when a state cannot be read: nothing may be removed then
 */
export function machinesInUse(store: string): readonly MachineUse[] {
  return rememberedProjects(store).flatMap((projectDir) => {
    try {
      const state = readState(projectDir);
      const { machines } = observe(state);
      return Object.entries(state?.machines ?? {}).map(([machine, record]) => ({
        machine,
        projectDir,
        running: machines[machine]?.state === 'running' || machines[machine]?.state === 'broken',
        digest: record.boxDigest,
        ...(record.spec.kind === 'vm'
          ? { beneath: foldersBeneath(vmDiskFile(projectPaths(projectDir).machineDir(machine))) }
          : {}),
        layers: record.layers ?? [],
      }));
    } catch (cause) {
      const { message, details, hint } = toTsvError(cause);
      throw new TsvError('TSV_STORE', 'what a project uses cannot be told, so nothing is removed', {
        details: [message, ...details],
        ...(hint === undefined ? {} : { hint }),
        cause,
      });
    }
  });
}

/** {@link machinesInUse}, and what the Tsfiles and lock files of the same projects name. */
export async function usesOf(place: Place, store: string): Promise<Uses> {
  const machines = machinesInUse(store);
  const references = new Set<string>();
  const pinned = new Set<Digest>();
  const boxes = new Set<string>();
  const unreadable: { projectDir: string; why: string }[] = [];
  for (const projectDir of rememberedProjects(store)) {
    try {
      for (const { box, image } of await tsfileMachines(place, projectDir)) {
        if (image === undefined) boxes.add(box);
        else references.add(box);
        if (image?.digest !== undefined) pinned.add(image.digest);
      }
      for (const { digest } of Object.values(readLock(projectDir)?.images ?? {})) pinned.add(digest);
    } catch (error) {
      unreadable.push({ projectDir, why: toTsvError(error).message });
    }
  }
  return { machines, references, pinned, boxes, unreadable };
}

async function tsfileMachines(place: Place, projectDir: string) {
  if (!tsfileNames.some((name) => existsSync(join(projectDir, name)))) return [];
  return (await load({ cwd: projectDir, env: place.env })).machines;
}
