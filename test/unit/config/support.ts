import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { loadProject } from '../../../src/config/index.ts';
import { TsvError } from '../../../src/model/errors.ts';
import type { Machine, Project } from '../../../src/model/project.ts';

export const root = fileURLToPath(new URL('../../..', import.meta.url));
export const fixtures = join(root, 'test/fixtures/tsfile');

/** The boxes that there are, for these tests. */
export const boxes = ['debian-12', 'd', 'e'];

/** A folder of its own for the running test, with these files in it. */
export function folder(files: Readonly<Record<string, string>> = {}): string {
  const dir = mkdtempSync(join(tmpdir(), 'tsv-config-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  return dir;
}

export const load = (text: string, env: Record<string, string> = {}, dotEnv?: string): Promise<Project> =>
  loadProject(folder({ 'Tsfile.yaml': text, ...(dotEnv === undefined ? {} : { '.env': dotEnv }) }), { env, boxes });

/** The error that loading throws; anything but a TsvError fails the test. */
export async function failure(loading: Promise<unknown>): Promise<TsvError> {
  const error = await loading.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof TsvError) return error;
  throw error ?? new Error('this was expected to fail');
}

/** The rendered mistakes of a text. */
export async function mistakes(
  text: string,
  env: Record<string, string> = {},
  dotEnv?: string,
): Promise<readonly string[]> {
  const error = await failure(load(text, env, dotEnv));
  if (error.code !== 'TSV_TSFILE_INVALID') throw error;
  return error.details;
}

/** Only the first line of each mistake: `Tsfile.yaml:LINE:COLUMN: message`. */
export const headlines = async (text: string, env: Record<string, string> = {}): Promise<string[]> =>
  (await mistakes(text, env)).map((detail) => detail.split('\n')[0]?.replace(/^Tsfile\.yaml:/, '') ?? '');

export function machine(project: Project, name: string): Machine {
  const found = project.machines.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`no machine ${name}`);
  return found;
}

/** A Tsfile of containers: `body` is the content of `machines:`, indented by two spaces. */
export const machines = (body: string, before = ''): string => `version: 1\n${before}machines:\n${body}`;
