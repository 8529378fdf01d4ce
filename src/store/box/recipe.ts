import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseDocument } from 'yaml';
import { TsvError } from '../../model/errors.ts';
import { boxName, isFile, recipeNames } from './names.ts';

export type BoxKind = 'container' | 'vm';

/** One `boxes/NAME` folder, read. */
export interface Recipe {
  readonly name: string;
  readonly dir: string;
  readonly description: string;
  /** Debian suite, e.g. `bookworm`. */
  readonly suite: string;
  /** The ordinary user that the recipe makes. */
  readonly user: string;
  readonly container: { readonly packages: readonly string[] };
  readonly vm:
    | {
        readonly packages: readonly string[];
        readonly diskBytes: number;
        readonly cmdline: string;
        /** See `BoxRef.warm`. */
        readonly warm: boolean;
      }
    | undefined;
}

/**
 * Reads `boxesDir/name/box.yaml`.
 * @throws TSV_UNKNOWN_BOX with the names there are; TSV_BOX_BUILD with every mistake of the file.
 */
export async function readRecipe(boxesDir: string, name: string): Promise<Recipe> {
  const file = join(boxesDir, name, 'box.yaml');
  if (!boxName.test(name) || !isFile(file)) {
    const names = recipeNames(boxesDir);
    throw new TsvError('TSV_UNKNOWN_BOX', `there is no box '${name}'`, {
      details: [`looked in ${boxesDir}`],
      hint: names.length === 0 ? 'docs/boxes.md shows how to write one' : `known boxes: ${names.join(', ')}`,
    });
  }
  return parseRecipe(readFileSync(file, 'utf8'), { name, dir: join(boxesDir, name), file });
}

/** {@link readRecipe} without the disk; `file` is what errors call the text. */
export async function parseRecipe(text: string, from: { name: string; dir: string; file: string }): Promise<Recipe> {
  const document = parseDocument(text);
  const mistakes: string[] = document.errors.map((error) => error.message);
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    mistakes.push(error instanceof Error ? error.message : String(error)); // an alias, or one without its anchor
  }
  const recipe = mistakes.length === 0 ? check(value, from, mistakes) : undefined;
  if (recipe === undefined || mistakes.length > 0) {
    throw new TsvError('TSV_BOX_BUILD', `the recipe ${from.file} has mistakes`, {
      details: mistakes,
      hint: 'docs/boxes.md lists what a recipe may say',
    });
  }
  return recipe;
}

function check(value: unknown, from: { name: string; dir: string }, mistakes: string[]): Recipe {
  const top = section(value, 'box.yaml', ['version', 'description', 'suite', 'user', 'container', 'vm'], mistakes);
  if (top.version !== 1) mistakes.push('version: must be 1');
  const container = section(top.container, 'container', ['packages'], mistakes);
  const vm =
    top.vm === undefined ? undefined : section(top.vm, 'vm', ['packages', 'disk', 'cmdline', 'warm'], mistakes);
  return {
    name: from.name,
    dir: from.dir,
    description: word(top, 'description', /^[^\n]+$/, mistakes),
    suite: word(top, 'suite', /^[a-z][a-z0-9.-]*$/, mistakes),
    user: word(top, 'user', /^[a-z_][a-z0-9_-]*$/, mistakes),
    container: { packages: packages(container, 'container', mistakes) },
    vm:
      vm === undefined
        ? undefined
        : {
            packages: packages(vm, 'vm', mistakes),
            diskBytes: gibibytes(word(vm, 'disk', /^[1-9][0-9]*GiB$/, mistakes)),
            cmdline: word(vm, 'cmdline', /^[ -~]+$/, mistakes),
            warm: flag(vm, 'warm', mistakes),
          },
  };
}

function section(value: unknown, where: string, keys: readonly string[], mistakes: string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    mistakes.push(`${where}: must be a mapping of ${keys.join(', ')}`);
    return {};
  }
  for (const key of Object.keys(value)) {
    if (!keys.includes(key)) mistakes.push(`${where}: unknown key '${key}' (known: ${keys.join(', ')})`);
  }
  return value as Record<string, unknown>;
}

function word(from: Record<string, unknown>, key: string, form: RegExp, mistakes: string[]): string {
  const value = from[key];
  if (typeof value === 'string' && form.test(value)) return value;
  mistakes.push(`${key}: must be a text of the form ${form.source}`);
  return '';
}

function flag(from: Record<string, unknown>, key: string, mistakes: string[]): boolean {
  const value = from[key] ?? false;
  if (typeof value !== 'boolean') mistakes.push(`${key}: must be true or false`);
  return value === true;
}

/** Package names (Debian policy 5.6.1); they end up in a command line, so nothing else is taken. */
function packages(from: Record<string, unknown>, where: string, mistakes: string[]): string[] {
  const value = from.packages;
  if (
    Array.isArray(value) &&
    value.every((p): p is string => typeof p === 'string' && /^[a-z0-9][a-z0-9+.-]+$/.test(p))
  ) {
    return value;
  }
  mistakes.push(`${where}: packages must be a list of package names`);
  return [];
}

const gibibytes = (text: string): number => Number.parseInt(text, 10) * 2 ** 30;
