import { dirname, join, relative, resolve } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { Machine, Project } from '../model/project.ts';
import { checkProject } from './checks.ts';
import { type Diagnostic, type Report, renderDiagnostic, Source } from './diagnostic.ts';
import { findTsfile, readDotEnv, readTsfile } from './find.ts';
import { readMachines } from './machines.ts';
import { readNetworks } from './networks.ts';
import { readOneOff } from './one-off.ts';
import { buildProject, projectNameOf } from './project.ts';
import { fieldOf, textOf } from './read.ts';
import { type Node, parseTree } from './tree.ts';
import { validateTree } from './validate.ts';
import { parseDotEnv, projectDigest, Variables } from './variables.ts';
import { checkVolumes, readVolumes } from './volumes.ts';

export interface LoadOptions {
  /** Variables for `${VAR}`; they win over `.env` beside the Tsfile. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Names of the boxes that there are: an `image` of such a name is a box, any other is an image of a registry. */
  readonly boxes: readonly string[];
  /** This Tsfile instead of the one in `startDir` or above; relative to `startDir`. */
  readonly file?: string;
}

/**
 * Finds, reads and checks the Tsfile.
 * @throws TSV_NO_TSFILE; TSV_TSFILE_INVALID with all mistakes at once, one rendered diagnostic per detail
 */
export async function loadProject(startDir: string, options: LoadOptions): Promise<Project> {
  return loadTsfile(startDir, options).project;
}

/** The same, and a container of this image besides; see {@link readOneOff}. @throws TSV_USAGE when it is no image's name */
export async function loadOneOff(
  startDir: string,
  image: string,
  options: LoadOptions,
): Promise<{ readonly project: Project; readonly machine: Machine }> {
  const { project, root } = loadTsfile(startDir, options);
  return { project, machine: readOneOff(root, image, { dir: project.dir, boxes: options.boxes }) };
}

function loadTsfile(startDir: string, options: LoadOptions): Checked {
  const file = options.file === undefined ? findTsfile(startDir) : resolve(startDir, options.file);
  const shown = (path: string) => relative(resolve(startDir), path);
  const tsfile = new Source(shown(file), readTsfile(file));
  const dotEnvFile = join(dirname(file), '.env');
  const dotEnv = { name: shown(dotEnvFile), text: readDotEnv(dotEnvFile) };
  const result = checkTsfile(tsfile, { file, env: options.env, boxes: options.boxes, dotEnv });
  if ('project' in result) return result;
  throw invalidTsfile(tsfile, result.mistakes);
}

/** More mistakes than this are counted, but not listed. */
const listedLimit = 100;

function invalidTsfile(tsfile: Source, { diagnostics, count }: Mistakes): TsvError {
  const details = diagnostics.map((diagnostic) =>
    renderDiagnostic(diagnostic, diagnostic.file === tsfile.file ? tsfile : undefined),
  );
  if (count > diagnostics.length) details.push(`… and ${count - diagnostics.length} more`);
  const message = `${tsfile.file} has ${count === 1 ? 'a mistake' : `${count} mistakes`}`;
  return new TsvError('TSV_TSFILE_INVALID', message, { details });
}

interface Checked {
  readonly project: Project;
  /** What it was read from. */
  readonly root: Node;
}

export interface Mistakes {
  /** In the order of the file, those of `.env` first; at most {@link listedLimit}. */
  readonly diagnostics: readonly Diagnostic[];
  readonly count: number;
}

/**
 * From text to project or to every mistake. Structure and meaning are both checked: a wrong key in one machine hides
 * nothing about another. Reads only the scripts and files that provisioning names.
 */
export function checkTsfile(
  source: Source,
  options: {
    /** Absolute path of the Tsfile. */
    readonly file: string;
    readonly env: LoadOptions['env'];
    readonly boxes: LoadOptions['boxes'];
    readonly dotEnv: { readonly name: string; readonly text: string };
  },
): Checked | { readonly mistakes: Mistakes } {
  // One place may be reached twice, through an alias or through `defaults`.
  const found = new Map<string, Parameters<Report>>();
  const report: Report = (at, message, hint) => void found.set(`${at.start} ${message}`, [at, message, hint]);
  const { values, mistakes } = parseDotEnv(options.dotEnv.text);
  const dir = dirname(options.file);
  const variables = new Variables(options.env, values);

  const root = parseTree(source, variables, report);
  if (root?.kind === 'scalar' && root.value === null) {
    report({ start: 0, end: 0 }, 'the file is empty', 'tsv init --list shows templates to start from');
  } else if (root !== undefined) {
    validateTree(root, report);
    const networks = readNetworks(root, report);
    const machines = readMachines(root, { dir, boxes: options.boxes }, report);
    const volumes = readVolumes(root);
    checkProject(machines, networks, report);
    checkVolumes(machines, volumes, report);
    if (found.size === 0 && mistakes.length === 0) {
      const name = textOf(fieldOf(root, 'project'))?.value ?? projectNameOf(dir);
      const digest = projectDigest(source.text, variables.used());
      return { project: buildProject({ name, dir, file: options.file, digest }, machines, networks, volumes), root };
    }
  }
  const dotEnv = new Source(options.dotEnv.name, options.dotEnv.text);
  const diagnostics = [
    ...mistakes
      .slice(0, listedLimit)
      .map(({ offset, length, message }) => dotEnv.diagnostic({ start: offset, end: offset + length }, message)),
    ...[...found.values()]
      .sort(([a], [b]) => a.start - b.start)
      .slice(0, listedLimit)
      .map((mistake) => source.diagnostic(...mistake)),
  ].slice(0, listedLimit);
  return { mistakes: { diagnostics, count: mistakes.length + found.size } };
}
