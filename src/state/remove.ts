import { lstatSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { errno } from './own-folder.ts';
import { projectPaths, stateFiles, volumeName } from './paths.ts';

/**
 * Removes the state folder of a project of which nothing exists any more, but for the volumes and disks that it was to leave:
 * with them, the folder stays. Already gone: success.
 */
export function removeStateDir(projectDir: string): void {
  const { stateDir, volumesDir } = projectPaths(projectDir);
  // Never through a link: what it leads to is not ours.
  if (!isFolder(stateDir)) {
    rmSync(stateDir, { force: true });
    return;
  }
  const disks = join(stateDir, stateFiles.disks);
  for (const name of readdirSync(stateDir))
    if (name !== stateFiles.disks && name !== stateFiles.volumes)
      rmSync(join(stateDir, name), { recursive: true, force: true });
  // What was being filled is nobody's.
  for (const name of entries(volumesDir))
    if (!volumeName.test(name)) rmSync(join(volumesDir, name), { recursive: true, force: true });
  const ofMachines = entries(disks).map((name) => join(disks, name));
  for (const folder of [...ofMachines, disks, volumesDir, stateDir]) removeEmpty(folder);
}

const isFolder = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

const entries = (folder: string): readonly string[] => (isFolder(folder) ? readdirSync(folder) : []);

function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(errno(error) ?? '')) throw error;
  }
}
