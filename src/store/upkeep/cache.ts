import { existsSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { UserMap } from '../../sys/userns.ts';
import {
  cacheFiles,
  cacheFolder,
  currentLayers,
  layerName,
  makingNames,
  namesIn,
  readCacheLayers,
  unfinishedKey,
} from '../cache/layout.ts';
import { foldersBeneath } from '../frozen.ts';
import { templateFiles } from '../template/layout.ts';
import type { Leftover } from './inventory.ts';
import type { Uses } from './uses.ts';

/** A layer of the provision cache. */
export interface StoredCacheLayer {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
  /** Names of those that it rests on. */
  readonly lower: readonly string[];
  /** Of a VM's: folders of the disks that its own lies over. */
  readonly beneath: readonly string[];
  /**
   * New machines may be made from it: it is the newest of its key, whole, not forgotten, for the user map of whoever asks, and
   * of a project whose folder is there.
   */
  readonly live: boolean;
  /** Its note and its files are there. */
  readonly complete: boolean;
  /** Made by whoever asks. */
  readonly own: boolean;
  /** Milliseconds since a machine was last made from it, or since it was made. */
  readonly idleMs: number;
}

/** As long as this a layer that no machine uses waits for one. */
export const idleLimitMs = 30 * 24 * 60 * 60 * 1000;

export function storedCache(store: string, map: UserMap): readonly StoredCacheLayer[] {
  const current = basename(cacheFolder(store, map));
  const now = Date.now();
  return mapFolders(store).flatMap((folder) => {
    const whole = readCacheLayers(folder);
    const live = new Set([...currentLayers(whole).values()].map(({ name }) => name));
    const own = statSync(folder, { throwIfNoEntry: false })?.uid === process.getuid?.();
    return namesIn(folder)
      .filter((name) => layerName(name) !== undefined)
      .map((name): StoredCacheLayer => {
        const layer = whole.find((other) => other.name === name);
        const path = join(folder, name);
        return {
          name,
          path,
          bytes: layer?.bytes ?? 0,
          lower: layer?.lower ?? [],
          beneath: foldersBeneath(join(path, templateFiles.disk)),
          live: layer !== undefined && live.has(name) && basename(folder) === current && existsSync(layer.project),
          complete: layer !== undefined,
          own,
          idleMs: now - (statSync(join(path, cacheFiles.note), { throwIfNoEntry: false })?.mtimeMs ?? 0),
        };
      });
  });
}

/** What killed makers left. */
export const cacheLeftovers = (store: string): readonly Leftover[] =>
  mapFolders(store).flatMap((folder) =>
    namesIn(folder).flatMap((name) => {
      const key = unfinishedKey(name);
      return key === undefined ? [] : [{ path: join(folder, name), lock: join(folder, makingNames(key).lock) }];
    }),
  );

const mapFolders = (store: string): readonly string[] =>
  namesIn(join(store, 'cache')).map((name) => join(store, 'cache', name));

/**
 * Layers that nobody uses. Pure. Kept: what machines were made from, what is mounted, and, unless `all`, what new machines may
 * be made from, if one was in the last {@link idleLimitMs}; and all that these rest on.
 */
export function unusedCache(
  layers: readonly StoredCacheLayer[],
  { machines }: Pick<Uses, 'machines'>,
  mounted: ReadonlySet<string>,
  all: boolean,
): readonly StoredCacheLayer[] {
  const kept = new Set(machines.flatMap((machine) => machine.layers ?? []));
  for (const { name, live, idleMs, own } of layers)
    if (!own || mounted.has(`${name}/${cacheFiles.tree}`) || (!all && live && idleMs < idleLimitMs)) kept.add(name);
  // The note of each names all that it rests on, not only the next one.
  for (const { name, lower } of layers) if (kept.has(name)) for (const below of lower) kept.add(below);
  return layers.filter(({ name }) => !kept.has(name));
}
