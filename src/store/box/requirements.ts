import { accessSync, constants } from 'node:fs';
import { TsvError } from '../../model/errors.ts';
import type { UserMap } from '../../sys/userns.ts';
import type { BoxKind } from './recipe.ts';
import { programPath } from './workshop.ts';

/** Debian package of each program that a build runs on the host. */
const containerPrograms = {
  mmdebstrap: 'mmdebstrap',
  'apt-config': 'apt',
  unshare: 'util-linux',
  setpriv: 'util-linux',
  flock: 'util-linux',
};
const vmPrograms = { ...containerPrograms, mke2fs: 'e2fsprogs' };
const userPrograms = { newuidmap: 'uidmap', newgidmap: 'uidmap' };

/** @throws TSV_HOST_MISSING with the one command that installs everything which is not there. */
export function requirePrograms(kind: BoxKind, map: UserMap, has: (program: string) => boolean = isInstalled): void {
  const wanted = { ...(kind === 'vm' ? vmPrograms : containerPrograms), ...(map.rooted ? {} : userPrograms) };
  const missing = Object.entries(wanted).filter(([program]) => !has(program));
  if (missing.length === 0) return;
  throw new TsvError('TSV_HOST_MISSING', `building a box needs ${missing.map(([program]) => program).join(', ')}`, {
    hint: `sudo apt-get install ${[...new Set(missing.map(([, name]) => name))].join(' ')}`,
  });
}

function isInstalled(program: string): boolean {
  return programPath.split(':').some((dir) => {
    try {
      accessSync(`${dir}/${program}`, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
