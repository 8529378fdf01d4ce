import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { UserMap } from '../../sys/userns.ts';
import type { HostApt } from './host-apt.ts';
import type { BoxKind, Recipe } from './recipe.ts';

/** Raised when the builder itself changes what it makes of the same recipe. */
const builderVersion = 1;

/**
 * What a part of a box is cached under: sha256, in hex, over all that decides its content. The VM is built on the
 * container's root file system, so its digest covers that one's.
 */
export function partDigest(recipe: Recipe, kind: BoxKind, map: UserMap, apt: HostApt): string {
  const { suite, user, container, vm } = recipe;
  const base = sha256([builderVersion, suite, user, container, folderDigests(join(recipe.dir, 'container')), map, apt]);
  return kind === 'container' ? base : sha256([base, vm, folderDigests(join(recipe.dir, 'vm'))]);
}

const sha256 = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex');

/** Every file below `dir` with the sha256 of its bytes; modes do not count, the builder sets them. */
export function folderDigests(dir: string): [path: string, digest: string][] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry): [string, string] => {
      const path = join(entry.parentPath, entry.name);
      const bytes = entry.isSymbolicLink() ? readlinkSync(path) : readFileSync(path);
      return [path.slice(dir.length), createHash('sha256').update(bytes).digest('hex')];
    })
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
