import { join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { isDigest } from '../model/image.ts';
import type { Machine } from '../model/project.ts';
import type { BoxRef } from '../model/provider.ts';
import { shortReference } from '../model/reference.ts';
import { findBuiltBox } from '../store/box/find.ts';
import { cacheFiles } from '../store/cache/layout.ts';
import { findImage } from '../store/image/find.ts';
import type { UserMap } from '../sys/userns.ts';

/**
 * What a machine was made from, in the store: a box or an image. Never builds and never asks a registry.
 * @throws TSV_UNKNOWN_BOX, TSV_IMAGE_UNKNOWN when the store does not have it (any more)
 */
export function sourceOf(
  { storeDir, map }: { readonly storeDir: string; readonly map: UserMap },
  machine: Pick<Machine, 'box' | 'kind' | 'image'>,
  digest: string,
): BoxRef {
  if (machine.image === undefined)
    return findBuiltBox({ store: storeDir, name: machine.box, kind: machine.kind, digest });
  const image = isDigest(digest) ? findImage({ store: storeDir, map, digest }) : undefined;
  if (image === undefined) {
    const name = shortReference(machine.box);
    throw new TsvError(
      'TSV_IMAGE_UNKNOWN',
      `the store no longer has the image ${name} that this machine was made from`,
      {
        details: [digest],
        hint: 'tsv up gets it again',
      },
    );
  }
  const { defaults } = image.config;
  return { name: machine.box, digest, layers: image.layers, defaults, user: defaults.user || 'root' };
}

/**
 * With layers of the provision cache upon it, by their folders, the uppermost first. That of a virtual machine holds all that is
 * in those beneath it.
 */
export function withLayers(box: BoxRef, folders: readonly string[]): BoxRef {
  const [top] = folders;
  if (top === undefined) return box;
  if (box.disk !== undefined) return { ...box, kept: top };
  return { ...box, layers: [...folders.map((folder) => join(folder, cacheFiles.tree)), ...(box.layers ?? [])] };
}
