import { mustRun } from '../sys/command.ts';
import { enterPrefix, startHolder, type UserMap } from '../sys/userns.ts';

/**
 * Removes a folder whose content belongs to the sandbox's ids. Already gone is success. Root may remove such files as
 * it is; a user only as root of a namespace with the same ids. rm(1) follows no link and enters no other file system.
 */
export async function removeTree(path: string, map: UserMap): Promise<void> {
  const remove = ['rm', '-rf', '--one-file-system', '--', path];
  const failure = { code: 'TSV_STORE' as const, message: `${path} could not be removed` };
  if (map.rooted) {
    await mustRun(remove, failure);
    return;
  }
  const holder = await startHolder(map, { namespaces: [], label: 'tsv-rm' });
  try {
    await mustRun([...enterPrefix(holder.process.pid, ['user']), ...remove], failure);
  } finally {
    holder.release();
  }
}
