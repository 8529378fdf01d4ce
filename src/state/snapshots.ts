import { closeSync, constants, readdirSync, readFileSync, unlinkSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { type Snapshot, snapshotName } from '../model/snapshot.ts';
import { syncFolder } from '../sys/sync-folder.ts';
import { Mismatch } from './check.ts';
import { OwnFolder, writeFailed } from './own-folder.ts';
import { projectPaths } from './paths.ts';
import { checkSnapshot } from './schema.ts';
import { replaceFile } from './store.ts';

const ending = '.json';
const fileOf = (name: string): string => `${name}${ending}`;

/**
 * The project's snapshots, the oldest first. Needs no lock: each file is whole.
 * @throws TSV_STATE_CORRUPT, TSV_STATE_UNSAFE
 */
export function readSnapshots(projectDir: string): readonly Snapshot[] {
  const folder = OwnFolder.open(projectPaths(projectDir).snapshotsDir);
  if (folder === undefined) return [];
  try {
    return readdirSync(folder.at('.'))
      .filter((file) => file.endsWith(ending))
      .flatMap((file) => read(folder, file.slice(0, -ending.length)) ?? [])
      .toSorted((a, b) => a.at.localeCompare(b.at) || a.name.localeCompare(b.name));
  } finally {
    folder.close();
  }
}

/** undefined: removed meanwhile. */
function read(folder: OwnFolder, name: string): Snapshot | undefined {
  const fd = folder.openFile(fileOf(name), constants.O_RDONLY);
  if (fd === undefined) return undefined;
  try {
    return checkSnapshot(JSON.parse(readFileSync(fd, 'utf8')), name);
  } catch (error) {
    if (!(error instanceof Mismatch || error instanceof SyntaxError)) throw error;
    const file = `${folder.path}/${fileOf(name)}`;
    throw new TsvError('TSV_STATE_CORRUPT', `${file} cannot be read: ${error.message}`, {
      hint: `put a good copy of it back, or remove it: then there is no snapshot ${name} any more`,
      cause: error,
    });
  } finally {
    closeSync(fd);
  }
}

/** Whole and durable: from now on it is a snapshot, in the place of one of its name. @throws TSV_STATE_WRITE */
export async function writeSnapshot(projectDir: string, snapshot: Snapshot): Promise<void> {
  const { snapshotsDir } = projectPaths(projectDir);
  if (!snapshotName.test(snapshot.name)) throw new TsvError('TSV_INTERNAL', 'that is not the name of a snapshot');
  let folder: OwnFolder | undefined;
  try {
    folder = OwnFolder.ensure(snapshotsDir);
    // Of a writer that was killed: only one at a time writes.
    for (const file of readdirSync(folder.at('.'))) if (file.endsWith('.tmp')) unlinkSync(folder.at(file));
    const machines = Object.entries(snapshot.machines).map(([key, saved]) => [
      key,
      { ...saved, spec: { ...saved.spec, provision: [] } },
    ]);
    const text = JSON.stringify({ ...snapshot, machines: Object.fromEntries(machines) }, null, 2);
    await replaceFile(folder, fileOf(snapshot.name), `${text}\n`);
  } catch (error) {
    throw writeFailed(`${snapshotsDir}/${fileOf(snapshot.name)}`, error, 'no snapshot was made or changed');
  } finally {
    folder?.close();
  }
}

/** From now on it is none. Already gone: success. */
export function removeSnapshot(projectDir: string, name: string): void {
  const folder = OwnFolder.open(projectPaths(projectDir).snapshotsDir);
  if (folder === undefined) return;
  try {
    if (!readdirSync(folder.at('.')).includes(fileOf(name))) return;
    unlinkSync(folder.at(fileOf(name)));
    syncFolder(folder.at('.'));
  } finally {
    folder.close();
  }
}

/** Takes a machine out of all of them; one without any other is removed. @returns the names of those that had it */
export async function forgetMachine(projectDir: string, machine: string): Promise<readonly string[]> {
  const having = readSnapshots(projectDir).filter(({ machines }) => machines[machine] !== undefined);
  for (const snapshot of having) {
    const { [machine]: _, ...machines } = snapshot.machines;
    if (Object.keys(machines).length === 0) removeSnapshot(projectDir, snapshot.name);
    else await writeSnapshot(projectDir, { ...snapshot, machines });
  }
  return having.map(({ name }) => name);
}

/** A machine has another name now. Already so: success. */
export async function renameInSnapshots(projectDir: string, from: string, to: string): Promise<void> {
  for (const snapshot of readSnapshots(projectDir)) {
    const { [from]: saved, ...machines } = snapshot.machines;
    if (saved === undefined) continue;
    const renamed = { ...saved, spec: { ...saved.spec, name: to } };
    await writeSnapshot(projectDir, { ...snapshot, machines: { ...machines, [to]: renamed } });
  }
}
