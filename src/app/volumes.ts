import { existsSync, readdirSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { projectPaths, volumeName } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { findProjectDir, type Place } from './place.ts';

/** A volume of the project, as `tsv volume ls` has it. */
export interface ListedVolume {
  readonly volume: string;
  /** Machines that exist and have it. */
  readonly machines: readonly string[];
  /** What becomes of it: `project`: `tsv destroy` removes it; `keep`: nobody does, only `tsv volume rm`. */
  readonly until: 'project' | 'keep';
  /** The Tsfile no longer had it at the last `tsv up`. */
  readonly left: boolean;
  readonly path: string;
}

/** From the state, and what an earlier project in this folder was to keep. Needs no agent. */
export function listVolumes(place: Place): readonly ListedVolume[] {
  const dir = findProjectDir(place);
  const { volumesDir, volumeDir } = projectPaths(dir);
  const state = readState(dir);
  const known = state?.volumes ?? {};
  const folders = existsSync(volumesDir) ? readdirSync(volumesDir).filter((name) => volumeName.test(name)) : [];
  const machines = Object.values(state?.machines ?? {}).map(({ spec }) => spec);
  return [...new Set([...Object.keys(known), ...folders])].sort().map((volume) => ({
    volume,
    machines: machines
      .filter(({ volumes = [] }) => volumes.some(({ name }) => name === volume))
      .map(({ name }) => name),
    until: known[volume]?.keep === false ? 'project' : 'keep',
    left: known[volume]?.left ?? false,
    path: volumeDir(volume),
  }));
}

/** @throws TSV_USAGE with the nearest name */
export async function requireVolumes(place: Place, names: readonly string[]): Promise<void> {
  const known = listVolumes(place).map(({ volume }) => volume);
  const unknown = names.filter((name) => !known.includes(name));
  const [first] = unknown;
  if (first === undefined) return;
  const { didYouMean } = await import('../config/suggest.ts');
  throw new TsvError('TSV_USAGE', `this project has no volume ${unknown.join(', ')}`, {
    details: known.length === 0 ? [] : [`its volumes: ${known.join(', ')}`],
    hint: didYouMean(first, known) ?? 'tsv volume ls',
  });
}
