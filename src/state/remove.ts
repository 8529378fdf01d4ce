import { lstatSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { errno } from './own-folder.ts';
import { projectPaths, stateFiles } from './paths.ts';

/**
 * Removes the state folder of a project of which nothing exists any more, but for the disks that `destroy` has left: with
 * them, the folder stays. Already gone: success.
 */
export function removeStateDir(projectDir: string): void {
  const { stateDir } = projectPaths(projectDir);
  // Never through a link: what it leads to is not ours.
  if (lstatSync(stateDir, { throwIfNoEntry: false })?.isDirectory() !== true) {
    rmSync(stateDir, { force: true });
    return;
  }
  for (const name of readdirSync(stateDir))
    if (name !== stateFiles.disks) rmSync(join(stateDir, name), { recursive: true, force: true });
  const disks = join(stateDir, stateFiles.disks);
  for (const folder of [...folders(disks), disks, stateDir]) removeEmpty(folder);
}

const folders = (parent: string): string[] =>
  lstatSync(parent, { throwIfNoEntry: false })?.isDirectory() === true
    ? readdirSync(parent).map((name) => join(parent, name))
    : [];

function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(errno(error) ?? '')) throw error;
  }
}
