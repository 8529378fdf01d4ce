import { createHash } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { isAbsolute, join } from 'node:path';

/*
 * The folders of the projects that take something from the store: `STORE/projects/HEX`, one file each with the folder's
 * path, so that no two writers meet. It is a list of places to look at, not of uses: whoever removes from the store
 * reads the state there.
 */
const folderOf = (store: string): string => join(store, 'projects');

/**
 * To be called before a project takes an image or a box from the store: what it uses is then kept.
 * @param projectDir absolute
 */
export function rememberProject(store: string, projectDir: string): void {
  const real = realpathSync(projectDir);
  const file = join(folderOf(store), createHash('sha256').update(real).digest('hex').slice(0, 32));
  try {
    if (readFileSync(file, 'utf8') === real) return;
  } catch {
    // Not there yet, or torn by a kill: written now.
  }
  mkdirSync(folderOf(store), { recursive: true, mode: 0o700 });
  const temporary = `${file}.${process.pid}.tmp`;
  writeFileSync(temporary, real, { mode: 0o600 });
  renameSync(temporary, file);
}

/** The remembered folders that are still there, in alphabetical order. */
export function rememberedProjects(store: string): readonly string[] {
  return entries(store)
    .flatMap(({ dir }) => (isFolder(dir) ? [dir] : []))
    .sort();
}

/** Forgets the folders that are gone, and what a killed writer left. */
export function forgetLostProjects(store: string): void {
  for (const { file, dir } of entries(store)) if (!isFolder(dir)) rmSync(file, { force: true });
}

function entries(store: string): { file: string; dir: string }[] {
  let names: string[];
  try {
    names = readdirSync(folderOf(store));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names
    .map((name) => join(folderOf(store), name))
    .map((file) => ({ file, dir: file.endsWith('.tmp') ? '' : readText(file) }));
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // removed meanwhile
  }
}

const isFolder = (dir: string): boolean =>
  isAbsolute(dir) && statSync(dir, { throwIfNoEntry: false })?.isDirectory() === true;
