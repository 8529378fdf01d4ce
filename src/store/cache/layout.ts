import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { UserMap } from '../../sys/userns.ts';

/*
 * Where layers of the provision cache lie: `STORE/cache/MAP/KEY.N.HEX/`. A layer is there once its folder has its final name,
 * which it gets as the last step. Of several with one key the highest N counts; machines go on using the others.
 * docs/cache.md describes the folder.
 */

/** What a layer's folder holds, besides what the provider puts there. */
export const cacheFiles = { tree: 'fs', note: 'layer.json', forgotten: 'forgotten' } as const;

/** layer.json: written before the folder gets its final name. Its mtime says when a machine was last made from it. */
export interface CacheNote {
  readonly version: 1;
  /** Names of the layers that it rests on, the uppermost first. */
  readonly lower: readonly string[];
  /** What the provider has put there: names in the folder. */
  readonly holds: readonly string[];
  /** That it takes up on the disk. */
  readonly bytes: number;
  /** For people: what made it. */
  readonly project: string;
  readonly machine: string;
  readonly step: string;
  /** ISO 8601. */
  readonly madeAt: string;
}

export interface CacheLayer extends CacheNote {
  /** Name of its folder, which no other layer ever has. */
  readonly name: string;
  readonly key: string;
  readonly path: string;
}

/** `STORE/cache/MAP`: owners in a layer are those of one user map, so each map has layers of its own. */
export function cacheFolder(store: string, map: UserMap): string {
  const name = createHash('sha256').update(JSON.stringify(map)).digest('hex').slice(0, 16);
  return join(store, 'cache', name);
}

const pattern = /^([0-9a-f]{64})\.(\d+)\.[0-9a-f]{8}$/;

/** Key and number of a layer's folder; undefined: something else. */
export function layerName(name: string): { readonly key: string; readonly number: number } | undefined {
  const [, key, number] = pattern.exec(name) ?? [];
  return key === undefined ? undefined : { key, number: Number(number) };
}

/** The lock belongs to whoever makes a layer of this key: who holds it may remove all that begins with `unfinished`. */
export const makingNames = (key: string) => ({ unfinished: `.new.${key}.`, lock: `.lock-${key}` });

/** The key of an unfinished folder; undefined: something else. */
export const unfinishedKey = (name: string): string | undefined => /^\.new\.([0-9a-f]{64})\./.exec(name)?.[1];

/** undefined: there is none, or it is torn, or what it tells of is not there. */
export function readCacheNote(path: string): CacheNote | undefined {
  try {
    const note = JSON.parse(readFileSync(join(path, cacheFiles.note), 'utf8')) as CacheNote | null;
    if (note?.version !== 1 || ![note.lower, note.holds].every(Array.isArray)) return undefined;
    return note.holds.every((name) => existsSync(join(path, name))) ? note : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || isMissing(error)) return undefined;
    throw error;
  }
}

/** Whole layers in this folder, those that no new machine is made from among them. */
export function readCacheLayers(folder: string): readonly CacheLayer[] {
  return namesIn(folder).flatMap((name) => {
    const parts = layerName(name);
    const path = join(folder, name);
    const note = parts === undefined ? undefined : readCacheNote(path);
    return parts === undefined || note === undefined ? [] : [{ ...note, name, key: parts.key, path }];
  });
}

/** The one that new machines are made from, of each key whose layer is there with all that it rests on. */
export function currentLayers(layers: readonly CacheLayer[]): ReadonlyMap<string, CacheLayer> {
  const names = new Set(layers.map(({ name }) => name));
  const newest = new Map<string, CacheLayer>();
  for (const layer of layers) {
    const known = newest.get(layer.key);
    if (known === undefined || numberOf(known) < numberOf(layer)) newest.set(layer.key, layer);
  }
  return new Map(
    [...newest].filter(
      ([, { path, lower }]) => lower.every((name) => names.has(name)) && !existsSync(join(path, cacheFiles.forgotten)),
    ),
  );
}

/** No new machine is made from the layer in this folder; those that use it go on. */
export const forgetLayer = (path: string): void => writeFileSync(join(path, cacheFiles.forgotten), '', { mode: 0o600 });

export const numberOf = ({ name }: Pick<CacheLayer, 'name'>): number => layerName(name)?.number ?? 0;

/** Empty where there is no such folder. */
export function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';
