import { join } from 'node:path';
import type { UserMap } from '../../sys/userns.ts';
import { partDigest } from './digest.ts';
import { readHostApt } from './host-apt.ts';
import { partPaths } from './layout.ts';
import { readMetadata } from './metadata.ts';
import { recipeNames } from './names.ts';
import { type BoxKind, readRecipe } from './recipe.ts';

export interface BoxListing {
  readonly name: string;
  readonly description: string;
  readonly parts: readonly {
    readonly kind: BoxKind;
    readonly digest: string;
    readonly built: boolean;
    readonly bytes?: number;
  }[];
}

/** Every recipe of `boxesDir`, and which of its parts the store has for this user map. */
export async function listBoxes(boxesDir: string, store: string, map: UserMap): Promise<BoxListing[]> {
  return Promise.all(recipeNames(boxesDir).map((name) => listBox(boxesDir, store, map, name)));
}

async function listBox(boxesDir: string, store: string, map: UserMap, name: string): Promise<BoxListing> {
  const recipe = await readRecipe(boxesDir, name);
  const apt = await readHostApt(recipe.suite);
  const kinds: BoxKind[] = recipe.vm === undefined ? ['container'] : ['container', 'vm'];
  const parts = kinds.map((kind) => {
    const digest = partDigest(recipe, kind, map, apt);
    const { boxDir, part } = partPaths(store, name, kind, digest);
    const metadata = readMetadata(join(boxDir, part));
    return {
      kind,
      digest,
      built: metadata !== undefined,
      ...(metadata === undefined ? {} : { bytes: metadata.bytes }),
    };
  });
  return { name, description: recipe.description, parts };
}
