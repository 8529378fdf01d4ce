import { readdirSync, rmdirSync, rmSync } from 'node:fs';
import { errno } from './own-folder.ts';
import { projectPaths, stateFiles, volumeName } from './paths.ts';

/**
 * Removes `.ts-vm` of a project of which nothing exists any more. Volumes stay that the project was to leave, and the
 * folder with them. Gone is success.
 */
export function removeStateDir(projectDir: string): void {
  const { stateDir, volumesDir } = projectPaths(projectDir);
  for (const name of entries(stateDir))
    if (name !== stateFiles.volumes) rmSync(`${stateDir}/${name}`, { recursive: true, force: true });
  // What was being filled is nobody's.
  for (const name of entries(volumesDir))
    if (!volumeName.test(name)) rmSync(`${volumesDir}/${name}`, { recursive: true, force: true });
  for (const folder of [volumesDir, stateDir]) removeEmpty(folder);
}

function entries(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (errno(error) === 'ENOENT') return [];
    throw error;
  }
}

function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (errno(error) !== 'ENOENT' && errno(error) !== 'ENOTEMPTY') throw error;
  }
}
