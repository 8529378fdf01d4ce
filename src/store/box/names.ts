import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** What a box may be called: it becomes part of a path. */
export const boxName = /^[a-z0-9][a-z0-9.-]*$/;

/** Names of the recipes in `boxesDir`, sorted; none when there is no such folder. */
export function recipeNames(boxesDir: string): string[] {
  let names: string[];
  try {
    names = readdirSync(boxesDir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names.filter((name) => boxName.test(name) && isFile(join(boxesDir, name, 'box.yaml'))).sort();
}

export const isFile = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isFile() === true;
