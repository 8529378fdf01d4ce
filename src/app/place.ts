import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TsvError } from '../model/errors.ts';
import type { Machine, Project } from '../model/project.ts';
import { projectPaths } from '../state/paths.ts';

/** Where a command works: found without reading a Tsfile, so that every command can afford it. */
export interface Place {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** `--file`. */
  readonly file?: string;
}

export const tsfileNames = ['Tsfile.yaml', 'Tsfile.yml'];

/** The nearest of `dir` and the folders above it. */
function upwards(dir: string, isWanted: (dir: string) => boolean): string | undefined {
  if (isWanted(dir)) return dir;
  const above = dirname(dir);
  return above === dir ? undefined : upwards(above, isWanted);
}

/** Folder of the installed package: recipes, templates, built files. @throws TSV_INTERNAL when only a part of it is there */
export function packageDir(from = dirname(fileURLToPath(import.meta.url))): string {
  const found = upwards(from, (dir) => existsSync(join(dir, 'boxes')));
  if (found !== undefined) return found;
  throw new TsvError('TSV_INTERNAL', 'this installation of tsv is incomplete', {
    details: [`no folder \`boxes\` in ${from} or above it`],
    hint: 'npm install -g ts-vm',
  });
}

/** Where the recipes of boxes are. */
export const boxesDir = (): string => join(packageDir(), 'boxes');

export const builtFile = (name: string): string => join(packageDir(), 'dist', name);

/**
 * The project's folder: the nearest one upwards with a Tsfile or a state (so that what a lost Tsfile made can still be
 * destroyed). @throws TSV_NO_TSFILE
 */
export function findProjectDir(place: Place): string {
  if (place.file !== undefined) return dirname(resolve(place.cwd, place.file));
  const isProject = (dir: string) =>
    tsfileNames.some((name) => existsSync(join(dir, name))) || existsSync(projectPaths(dir).stateFile);
  const found = upwards(resolve(place.cwd), isProject);
  if (found !== undefined) return found;
  throw new TsvError('TSV_NO_TSFILE', 'no Tsfile.yaml in this folder or above it', {
    details: [`looked from ${resolve(place.cwd)}`],
    hint: 'tsv init',
  });
}

/** The Tsfile, checked. The parser is loaded only here. */
export async function load(place: Place): Promise<Project> {
  const { loadProject, options } = await loader(place);
  return loadProject(place.cwd, options);
}

/** The Tsfile, and beside its machines a container of `image`, as it would be one of them. @throws TSV_USAGE */
export async function loadBeside(
  place: Place,
  image: string,
): Promise<{ readonly project: Project; readonly machine: Machine }> {
  const { loadOneOff, options } = await loader(place);
  return loadOneOff(place.cwd, image, options);
}

async function loader(place: Place) {
  const [{ loadProject, loadOneOff }, { recipeNames }] = await Promise.all([
    import('../config/index.ts'),
    import('../store/box/names.ts'),
  ]);
  const options = {
    env: place.env,
    boxes: recipeNames(boxesDir()),
    ...(place.file === undefined ? {} : { file: place.file }),
  };
  return { loadProject, loadOneOff, options };
}

/** What the last `up` read, so that `status` need not parse: the names, and a stamp of the files that they came from. */
export interface TsfileNote {
  readonly stamp: string;
  readonly project: string;
  readonly machines: readonly {
    readonly name: string;
    readonly kind: 'vm' | 'container';
    readonly forwards: readonly string[];
    /** Names of the provisioning steps that `up` runs. */
    readonly steps: readonly string[];
  }[];
}

/** Changes when the Tsfile or its `.env` changes. */
export function tsfileStamp(projectDir: string): string {
  return [...tsfileNames, '.env']
    .map((name) => statSync(join(projectDir, name), { throwIfNoEntry: false }))
    .map((stat) => (stat === undefined ? '-' : `${stat.ino}:${stat.mtimeMs}:${stat.size}`))
    .join(' ');
}

const noteFile = (projectDir: string): string => projectPaths(projectDir).tsfileNote;

/** The note, when it still is about the files as they are. */
export function readTsfileNote(projectDir: string): TsfileNote | undefined {
  try {
    const note = JSON.parse(readFileSync(noteFile(projectDir), 'utf8')) as TsfileNote;
    return note.stamp === tsfileStamp(projectDir) ? note : undefined;
  } catch {
    return undefined; // none yet, or torn: the Tsfile itself is read instead
  }
}

export const noteOf = (project: Project): TsfileNote => ({
  stamp: tsfileStamp(project.dir),
  project: project.name,
  machines: project.machines.map(({ name, kind, forwards, provision }) => ({
    name,
    kind,
    forwards: forwards.map(forwardText),
    steps: provision.filter(({ run }) => run !== 'never').map((step) => step.name),
  })),
});

export const forwardText = (forward: { hostAddress: string; hostPort: number; guestPort: number }): string =>
  `${forward.hostAddress}:${forward.hostPort}->${forward.guestPort}`;
