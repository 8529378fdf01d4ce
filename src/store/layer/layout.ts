import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '../../model/image.ts';
import type { UserMap } from '../../sys/userns.ts';

/*
 * Where unpacked layers lie: `STORE/images/layers/MAP/HEX/{fs,layer.json}`. A layer is there once its folder has its
 * final name, which it gets as the last step. docs/images.md describes the folder.
 */

/** What a layer's folder holds. */
export const layerFiles = { tree: 'fs', note: 'layer.json' } as const;

/** layer.json: written before the folder gets its final name. */
export interface LayerNote {
  readonly version: 1;
  readonly diffId: Digest;
  /** Of all its files together. */
  readonly bytes: number;
  /** Of the archive that were made. */
  readonly entries: number;
}

/** `STORE/images/layers/MAP`: owners in a layer are those of one user map, so each map has layers of its own. */
export function layersFolder(store: string, map: UserMap): string {
  const name = createHash('sha256').update(JSON.stringify(map)).digest('hex').slice(0, 16);
  return join(store, 'images', 'layers', name);
}

/** The names that a layer has in {@link layersFolder}. `final`: 64 hex digits, or `sha512-` and 128. */
export function layerNames(diffId: Digest): { final: string; unfinished: string; lock: string } {
  const [algorithm, hex = ''] = diffId.split(':');
  const final = algorithm === 'sha256' ? hex : `${algorithm}-${hex}`;
  // The lock belongs to whoever makes this layer: who holds it may remove all that begins with `unfinished`.
  return { final, unfinished: `.new.${final}.`, lock: `.lock-${final}` };
}

/** The note of a layer's folder, or undefined where no complete layer is. */
export function readLayerNote(folder: string): LayerNote | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, layerFiles.note), 'utf8')) as LayerNote;
  } catch (error) {
    // A damaged one is none: the layer is made anew.
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The tree of a complete layer, as overlayfs takes it (`…/fs`); undefined where it is not unpacked. */
export function layerFolder(store: string, map: UserMap, diffId: Digest): string | undefined {
  const folder = join(layersFolder(store, map), layerNames(diffId).final);
  return readLayerNote(folder) === undefined ? undefined : join(folder, layerFiles.tree);
}
