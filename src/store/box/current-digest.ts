import type { UserMap } from '../../sys/userns.ts';
import { partDigest } from './digest.ts';
import { readHostApt } from './host-apt.ts';
import { type BoxKind, readRecipe } from './recipe.ts';

/** The digest of the part that would be taken, or built, now. @throws TSV_UNKNOWN_BOX */
export async function currentDigest(boxesDir: string, map: UserMap, name: string, kind: BoxKind): Promise<string> {
  const recipe = await readRecipe(boxesDir, name);
  return partDigest(recipe, kind, map, await readHostApt(recipe.suite));
}
