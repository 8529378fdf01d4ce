import { lstatSync, rmSync } from 'node:fs';
import { mustRun } from '../../sys/command.ts';
import { type UserMap, withUserNamespace } from '../../sys/userns.ts';

/**
 * Removes a folder whose content belongs to the sandbox's ids. Already gone is success.
 * The content goes with the rights of those ids, reached through the working directory: its path may lead through
 * folders that they cannot enter. The folder itself goes with the caller's.
 */
export async function removeTree(path: string, map: UserMap): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (stat.isDirectory()) {
    const failure = { code: 'TSV_BOX_BUILD' as const, message: `${path} could not be removed` };
    await withUserNamespace(map, async (prefix) => {
      // find(1) of its own first entry: `.`; never into something that is mounted there.
      const inside = prefix.filter((word) => word !== '--mount');
      await mustRun([...inside, 'find', '.', '-xdev', '-mindepth', '1', '-delete'], failure, { cwd: path });
    });
  }
  rmSync(path, { recursive: true, force: true });
}
