import { readdirSync, readFileSync, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';

/*
 * The folders of the projects that take something from the store: `STORE/projects/HEX`, one file each with the folder's
 * path, so that no two writers meet. It is a list of places to look at, not of uses: whoever removes from the store
 * reads the state there. projects.ts writes them; this half is also for commands that start at once.
 */
export const rememberedFolder = (store: string): string => join(store, 'projects');

/** The remembered folders that are still there, in alphabetical order. */
export function rememberedProjects(store: string): readonly string[] {
  return rememberedEntries(store)
    .flatMap(({ dir }) => (isFolder(dir) ? [dir] : []))
    .sort();
}

/** All of them; `dir` is empty where the file does not say. */
export function rememberedEntries(store: string): { file: string; dir: string }[] {
  let names: string[];
  try {
    names = readdirSync(rememberedFolder(store));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names
    .map((name) => join(rememberedFolder(store), name))
    .map((file) => ({ file, dir: file.endsWith('.tmp') ? '' : readText(file) }));
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // removed meanwhile
  }
}

export const isFolder = (dir: string): boolean =>
  isAbsolute(dir) && statSync(dir, { throwIfNoEntry: false })?.isDirectory() === true;
