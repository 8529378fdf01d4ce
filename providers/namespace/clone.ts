import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { TsvError } from '../../src/model/errors.ts';
import type { Disk } from '../../src/model/project.ts';
import type { MachineContext, Provider } from '../../src/model/provider.ts';
import { diskImage } from '../../src/state/paths.ts';
import { copyExact } from '../../src/sys/copy-exact.ts';
import { O } from '../../src/sys/flags.ts';
import { tryLockExclusive } from '../../src/sys/flock.ts';
import { imageFiles } from './disk-image.ts';
import { parts } from './snapshot.ts';

/**
 * What lies over the image, the volumes of the image, and those of its disks that the copy is to have. All of them go into the
 * copy's own folder: the first start moves those that it keeps to where they belong.
 */
export async function cloneContainer(
  { dir, machine }: Pick<MachineContext, 'dir' | 'machine'>,
  { folder, wanted, signal }: Parameters<Provider['clone']>[1],
): Promise<void> {
  const failure = { code: 'TSV_CLONE', message: `the files of ${machine.name} could not be copied` } as const;
  for (const part of parts)
    if (existsSync(join(dir, part))) await copyExact(join(dir, part), join(folder, part), failure, signal);
  for (const disk of wanted.disks) {
    const file = imageOf(dir, disk);
    if (file !== undefined) await copyImage(file, diskImage(folder, { name: disk.name }), machine.name, signal);
  }
}

/** Where the image of a disk is, whatever `keep` said when it was last used. */
const imageOf = (dir: string, { name }: Disk): string | undefined =>
  [true, false].map((keep) => diskImage(dir, { name, keep })).find((file) => existsSync(file));

/** Whoever uses an image holds its lock: while it is copied, that is this process. */
async function copyImage(file: string, to: string, name: string, signal: AbortSignal): Promise<void> {
  const failure = { code: 'TSV_CLONE', message: `the disk ${file} of ${name} could not be copied` } as const;
  const fd = openSync(file, O.RDONLY | O.NOFOLLOW | O.NONBLOCK | O.CLOEXEC);
  try {
    if (!tryLockExclusive(fd)) {
      const hint = `fuser -vm ${file}   # shows by whom`;
      throw new TsvError('TSV_CLONE', failure.message, { details: ['it is in use'], hint });
    }
    mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
    const names = imageFiles(to);
    for (const [index, from] of imageFiles(file).entries())
      if (existsSync(from)) await copyExact(from, names[index] ?? to, failure, signal);
  } finally {
    closeSync(fd);
  }
}
