import { basename, resolve } from 'node:path';
import type { FileStep, ProvisionStep, RunPolicy, ShellStep } from '../model/project.ts';
import { contentDigest } from './content.ts';
import type { Report } from './diagnostic.ts';
import { fingerprintOf } from './fingerprint.ts';
import {
  booleanOf,
  choiceOf,
  entriesOf,
  entryOf,
  envOf,
  fieldOf,
  guestPathOf,
  itemsOf,
  numberOf,
  textOf,
  wordOf,
  wordsOf,
} from './read.ts';
import { type Entry, hasVariable, type Node } from './tree.ts';
import { parseMode } from './units.ts';

/** Keys that may stand in the `shell` map or beside it. */
const shellOptions = ['args', 'env', 'privileged', 'cwd'] as const;
type ShellOption = (typeof shellOptions)[number];

/**
 * The provisioning steps of one machine. Reads each script and file below `dir` for its fingerprint.
 * @param variables whether values of variables are in what all of them find: such may be secrets
 */
export function readSteps(
  node: Node | undefined,
  dir: string,
  variables: boolean,
  report: Report,
): readonly ProvisionStep[] {
  const items = itemsOf(node);
  const names = new Set<string>();
  for (const item of items) {
    const given = textOf(fieldOf(item, 'name'));
    if (given === undefined) continue;
    if (names.has(given.value)) report(given.at, `two steps are named \`${given.value}\``);
    names.add(given.value);
  }
  return items.flatMap((item) => {
    const step = readShell(item, dir, report) ?? readFile(item, dir, report);
    if (step === undefined) return [];
    const name = textOf(fieldOf(item, 'name'))?.value ?? freeName(step.label, names);
    const run: RunPolicy = choiceOf(fieldOf(item, 'run'), ['once', 'always', 'never', 'on-change'])?.value ?? 'once';
    const isCached = booleanOf(fieldOf(item, 'cache')) ?? !(variables || hasVariable(item));
    return [{ ...step.step, name, run, ...(isCached ? {} : { uncached: true }) }];
  });
}

/** The label, or the label with the first number that makes it unique in the machine. */
function freeName(label: string, names: Set<string>): string {
  let name = label;
  for (let n = 2; names.has(name); n++) name = `${label}-${n}`;
  names.add(name);
  return name;
}

const labelOf = (type: string, path: string): string => `${type}-${basename(path).replace(/[^A-Za-z0-9._-]+/g, '-')}`;

function readShell(
  item: Node,
  dir: string,
  report: Report,
): { label: string; step: Omit<ShellStep, 'name' | 'run' | 'uncached'> } | undefined {
  const shell = fieldOf(item, 'shell');
  if (shell === undefined) return undefined;
  const path = textOf(shell) ?? textOf(fieldOf(shell, 'path'));
  const inline = textOf(fieldOf(shell, 'inline'));
  const option = (key: ShellOption): Entry | undefined => {
    const [inside, beside] = [entryOf(shell, key), entryOf(item, key)];
    if (inside !== undefined && beside !== undefined)
      report(inside.keySpan, `\`${key}\` is given twice, in \`shell\` and beside it`);
    return inside ?? beside;
  };
  const args = wordsOf(option('args')?.value);
  const env = envOf(option('env')?.value);
  const privileged = booleanOf(option('privileged')?.value) ?? true;
  const cwd = guestPathOf(option('cwd')?.value, report)?.value;
  const settings = { args, env, privileged, ...(cwd === undefined ? {} : { cwd }) };
  const base = { type: 'shell', ...settings } as const;
  if (path !== undefined && path.value !== '') {
    const absolute = resolve(dir, path.value);
    const content = contentDigest(absolute, { folders: false });
    if (!content.ok) report(path.at, `the script ${path.value} ${content.why}`);
    const step = { ...base, script: { path: absolute } };
    const fingerprint = fingerprintOf(step, content.ok ? content.digest : '');
    return { label: labelOf('shell', path.value), step: { ...step, fingerprint } };
  }
  const step = { ...base, script: { inline: inline?.value ?? '' } };
  return { label: 'shell-inline', step: { ...step, fingerprint: fingerprintOf(step, '') } };
}

function readFile(
  item: Node,
  dir: string,
  report: Report,
): { label: string; step: Omit<FileStep, 'name' | 'run' | 'uncached'> } | undefined {
  const file = fieldOf(item, 'file');
  if (file === undefined) return undefined;
  for (const { key, keySpan } of entriesOf(item)) {
    if ((shellOptions as readonly string[]).includes(key))
      report(keySpan, `\`${key}\` is for \`shell\` steps; this one is a \`file\``);
  }
  const source = textOf(fieldOf(file, 'source'));
  const destination = guestPathOf(fieldOf(file, 'destination'), report);
  const modeNode = fieldOf(file, 'mode');
  const modeText = wordOf(modeNode);
  const mode = modeText === undefined ? undefined : parseMode(modeText.value);
  if (modeText !== undefined && mode === undefined && numberOf(modeNode) !== undefined) {
    report(modeText.at, `${modeText.value} is not a file mode (octal, such as 0644)`);
  }
  const owner = textOf(fieldOf(file, 'owner'))?.value;
  const path = resolve(dir, source?.value ?? '');
  let digest = '';
  if (source !== undefined && source.value !== '') {
    const content = contentDigest(path, { folders: true });
    if (content.ok) digest = content.digest;
    else report(source.at, `the source ${source.value} ${content.why}`);
  }
  const settings = {
    destination: destination?.value ?? '',
    ...(mode === undefined ? {} : { mode }),
    ...(owner === undefined ? {} : { owner }),
  };
  const step = { type: 'file', source: path, ...settings } as const;
  return { label: labelOf('file', source?.value ?? ''), step: { ...step, fingerprint: fingerprintOf(step, digest) } };
}
