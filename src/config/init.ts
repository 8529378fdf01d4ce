import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { TsvError } from '../model/errors.ts';
import { tsfileNames } from './find.ts';
import { projectNameOf } from './project.ts';
import { didYouMean } from './suggest.ts';

export interface Template {
  readonly name: string;
  /** One line. */
  readonly description: string;
}

/** Describes the template beside its files; not copied. */
const metadataName = 'template.yaml';
const ignoredFolder = '.ts-vm/';

/** The templates below `dir` (`templates/init` of the package), `default` first. */
export function listTemplates(dir: string): readonly Template[] {
  const names = readdirSync(dir).filter((name) => existsSync(join(dir, name, metadataName)));
  names.sort((a, b) => Number(b === 'default') - Number(a === 'default') || (a < b ? -1 : 1));
  return names.map((name) => {
    const metadata: unknown = parse(readFileSync(join(dir, name, metadataName), 'utf8'));
    const description =
      typeof metadata === 'object' && metadata !== null && 'description' in metadata
        ? String(metadata.description)
        : '';
    return { name, description };
  });
}

/**
 * Copies a template into `targetDir` (made if need be), names the project after that folder, and keeps `.ts-vm/`
 * out of git. Writes nothing if one of the files is there already. Returns the paths written, relative to `targetDir`.
 * @throws TSV_USAGE for an unknown template, TSV_EXISTS
 */
export function writeTemplate(dir: string, name: string, targetDir: string): readonly string[] {
  const templates = listTemplates(dir).map((template) => template.name);
  if (!templates.includes(name)) {
    throw new TsvError('TSV_USAGE', `there is no template '${name}'`, {
      hint: didYouMean(name, templates) ?? `tsv init --list   # shows: ${templates.join(', ')}`,
    });
  }
  const target = resolve(targetDir);
  const files = filesBelow(join(dir, name)).filter((file) => file !== metadataName);
  const taken = [...new Set([...files, ...tsfileNames])].filter((file) => present(join(target, file)));
  if (taken.length > 0) {
    throw new TsvError('TSV_EXISTS', `${taken.join(', ')} ${taken.length === 1 ? 'is' : 'are'} already in ${target}`, {
      hint: 'nothing was written; use an empty folder',
    });
  }
  for (const file of files) {
    const [from, to] = [join(dir, name, file), join(target, file)];
    const content = readFileSync(from);
    mkdirSync(dirname(to), { recursive: true });
    // `wx`: what appeared since the test above is not overwritten either.
    const text =
      basename(file) === tsfileNames[0]
        ? content.toString().replace(/^project: .*$/m, `project: ${projectNameOf(target)}`)
        : content;
    writeFileSync(to, text, { flag: 'wx', mode: statSync(from).mode & 0o111 ? 0o755 : 0o644 });
  }
  return ignoreState(target) ? [...files, '.gitignore'] : files;
}

const present = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

function filesBelow(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .sort();
}

/** Adds the state folder to .gitignore; false if it is in there. */
function ignoreState(target: string): boolean {
  const file = join(target, '.gitignore');
  const before = existsSync(file) ? readFileSync(file, 'utf8') : '';
  if (/^\/?\.ts-vm\/?\s*$/m.test(before)) return false;
  const separator = before === '' || before.endsWith('\n') ? '' : '\n';
  writeFileSync(file, `${separator}${ignoredFolder}\n`, { flag: 'a' });
  return true;
}
