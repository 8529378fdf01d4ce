import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Digest } from '../../model/image.ts';
import { folderDigests } from './digest.ts';
import { boxName, isFile } from './names.ts';

/**
 * Of all that a recipe says, and of nothing of the host: for people who share a project. undefined where there is no such
 * recipe.
 */
export function findRecipeDigest(boxesDir: string, name: string): Digest | undefined {
  const dir = join(boxesDir, name);
  if (!boxName.test(name) || !isFile(join(dir, 'box.yaml'))) return undefined;
  return `sha256:${createHash('sha256')
    .update(JSON.stringify(folderDigests(dir)))
    .digest('hex')}`;
}
